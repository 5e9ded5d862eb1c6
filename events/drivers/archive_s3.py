"""A bucket as the archive; loaded only where there is one."""

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import Storage
from storages.backends.s3 import S3Storage

from beidou.base.config import EventArchive

ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError, Boto3Error)
CONNECT_SECONDS, READ_SECONDS, TRIES = 10, 60, 3
_IN_MEMORY = 8 << 20


def storage(address: EventArchive) -> Storage:
    found: Storage = S3Storage(
        bucket_name=address.bucket,
        location=address.prefix,
        endpoint_url=address.endpoint,
        region_name=address.region,
        access_key=address.access_key,
        secret_key=address.secret_key,
        # Otherwise those of the process's environment would be used.
        security_token=None,
        session_profile=None,
        verify=address.ca or None,
        file_overwrite=True,
        # Not as an encoding of something else, which a server might take off on the way.
        object_parameters={"ContentType": "application/gzip"},
        max_memory_size=_IN_MEMORY,
        client_config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            # Servers other than Amazon's need not know its newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return found
