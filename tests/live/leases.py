"""Let the time of every lease of a live service run out at once: `python -m tests.live.leases`."""

from datetime import timedelta

import django


def main() -> None:
    django.setup()
    from django.utils import timezone

    from django_mcp.models import Claim

    print(Claim.objects.update(lease_until=timezone.now() - timedelta(seconds=1)))


if __name__ == "__main__":
    main()
