"""The WSGI application: the same project without streams that outlive a call."""

import os

from django.core.wsgi import get_wsgi_application

from demo_project.static_files import StaticFilesWSGI

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")

application = StaticFilesWSGI(get_wsgi_application())
