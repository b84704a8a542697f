"""A throttle of REST framework that counts, and refuses nobody in a test's time."""

from rest_framework.throttling import SimpleRateThrottle


class Generous(SimpleRateThrottle):
    rate = "1000000/day"
    scope = "generous"

    def get_cache_key(self, request: object, view: object) -> str:
        return f"generous {self.get_ident(request)}"  # type: ignore[arg-type]
