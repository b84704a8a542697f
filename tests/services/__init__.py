"""Real PostgreSQL, MariaDB and Redis for tests, and what stands for S3 and DynamoDB.

with services.postgres() as service:      # a database of one's own, dropped at the end
    settings.DATABASES["default"] = service.django

with services.PrivateRedis() as server:   # a server of one's own
    server.kill()
    server.start()
"""

from tests.services.aws_server import PrivateAWS, aws
from tests.services.mariadb_server import PrivateMariaDB, mariadb
from tests.services.ports import HOST, accepts, free_port, wait_until
from tests.services.postgres_server import PrivatePostgres, postgres
from tests.services.private import PrivateServer
from tests.services.redis_cluster import PrivateRedisCluster
from tests.services.redis_server import PrivateRedis, redis
from tests.services.service import Service
from tests.services.unavailable import Unavailable, skip_or_fail

__all__ = [
    "HOST",
    "PrivateAWS",
    "PrivateMariaDB",
    "PrivatePostgres",
    "PrivateRedis",
    "PrivateRedisCluster",
    "PrivateServer",
    "Service",
    "Unavailable",
    "accepts",
    "aws",
    "free_port",
    "mariadb",
    "postgres",
    "redis",
    "skip_or_fail",
    "wait_until",
]
