"""How often strangers may ask."""

from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle

from beidou.base.middleware import client_address


class StrangerThrottle(AnonRateThrottle):
    """Counts by the address that the rest of the portal sees: DRF would believe a header that any
    client may write, and count each new value as somebody else."""

    def get_ident(self, request: Request) -> str:
        return client_address(request._request)
