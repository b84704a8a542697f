"""`manage.py demo` serves what it prints, from an empty folder."""

import json
import re
import shlex
import subprocess
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import pytest

from tests.demo.served import Served

pytestmark = pytest.mark.live


def test_static_files_are_served(served: Served) -> None:
    assert served.status("/static/admin/css/base.css") == 200
    assert served.status("/static/admin/css/nothing.css") == 404
    assert served.status("/static/../manage.py") == 404
    assert served.status("/static/%2e%2e/manage.py") == 404


def test_printed_password_opens_the_admin(served: Served) -> None:
    found = re.search(r"^Admin: (\S+) as (\S+), password (\S+)$", served.printed, re.MULTILINE)
    assert found is not None
    url, username, password = found.groups()
    assert url == f"{served.address}/admin/"
    cookies = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    opener.open(f"{url}login/", timeout=10).close()
    token = next(str(cookie.value) for cookie in cookies if cookie.name == "csrftoken")
    form = urlencode({"username": username, "password": password, "csrfmiddlewaretoken": token, "next": "/admin/"})

    with opener.open(f"{url}login/", form.encode(), timeout=10) as answer:
        assert answer.url == url
    with opener.open(f"{url}desk/airport/?q=ZRH", timeout=10) as answer:
        assert "Zurich Airport" in answer.read().decode()


def test_printed_curl_works(served: Served) -> None:
    lines = served.printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().startswith("curl "))
    command = "\n".join(lines[start : lines.index("", start)])
    words = [word for word in shlex.split(command) if word.strip()]

    done = subprocess.run(words, capture_output=True, timeout=60, check=True)

    answer = json.loads(done.stdout)
    assert answer["result"]["isError"] is False
    assert answer["result"]["structuredContent"]["result"][0]["iata"] == "ZRH"


def test_printed_curls_of_rest_and_of_its_tool_show_the_same(served: Served) -> None:
    lines = served.printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("The same airports by the REST API"))
    end = next(number for number, line in enumerate(lines) if line.startswith("The desk remembers."))
    commands = "\n".join(lines[start + 1 : end]).strip().split("\n\n")

    rest, tool = (
        json.loads(subprocess.run(["bash", "-c", one], capture_output=True, timeout=60, check=True).stdout)
        for one in commands
    )

    assert rest["results"][0]["iata"] == "ZRH"
    assert tool["result"]["structuredContent"] == rest


def test_printed_token_travels(served: Served) -> None:
    lines = served.printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("The desk remembers.")) + 1
    commands = "\n".join(lines[start : lines.index("", start)])

    done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], capture_output=True, timeout=60, check=True)

    (leg,) = json.loads(done.stdout)["result"]["structuredContent"]["legs"]
    assert (leg["origin"], leg["destination"], leg["departs_on"]) == ("ZRH", "JFK", "2027-03-01")


def test_what_is_kept_is_private(served: Served) -> None:
    folder = served.log.parent / "var"

    assert {path.name for path in folder.iterdir()} >= {"db.sqlite3", "secret-key", "demo-credentials.json"}
    assert folder.stat().st_mode & 0o077 == 0
