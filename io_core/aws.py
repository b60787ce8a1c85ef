"""Where do AWS keys come from: the environment, a profile, or a role that is assumed for a while?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from io_core.credentials import Keys
from io_core.errors import CredentialsError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["assumed_role", "environment_keys", "profile_keys"]

_ID, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


def environment_keys(environ: Mapping[str, str] | None = None) -> Keys:
    """The keys that the environment's AWS variables hold.

    Raises:
        CredentialsError: They hold none.

    Example:
        >>> environment_keys({"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s"}).access_key_id
        'id'
    """
    found = os.environ if environ is None else environ
    if not found.get(_ID) or not found.get(_SECRET):
        raise CredentialsError(f"no keys in the environment: set {_ID} and {_SECRET}")
    return Keys(found[_ID], found[_SECRET], found.get("AWS_SESSION_TOKEN") or None)


def profile_keys(profile: str | None) -> Keys:
    """The keys of a profile of this machine's AWS configuration, or of AWS's default chain.

    Args:
        profile: Its name; None means what AWS's own programs would take: environment, then default
            profile, then the machine's role.

    Raises:
        CredentialsError: No such profile, or no keys in it.
        UnsupportedError: The extra `s3` is not installed.
    """
    name = "the default chain" if profile is None else f"profile {profile!r}"
    botocore = _botocore()
    try:
        found = botocore.session.Session(profile=profile).get_credentials()
        if found is None:
            raise CredentialsError(f"{name} of AWS's configuration holds no keys")
        frozen = found.get_frozen_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise CredentialsError(f"{name} gives no keys ({type(error).__name__})") from None
    # Keys that renew themselves keep their end to themselves.
    end = getattr(found, "_expiry_time", None)
    expires_at_ns = None if end is None else int(end.timestamp()) * 10**9
    return Keys(frozen.access_key, frozen.secret_key, frozen.token, expires_at_ns)


def assumed_role(
    base: Keys,
    role_arn: str,
    *,
    session_name: str = "deltacat",
    seconds: int = 3600,
    policy: str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    verify: str | None = None,
) -> Keys:
    """Keys of a role for a while, from AWS's Security Token Service or one that speaks like it.

    Args:
        base: Who asks.
        role_arn: The role.
        session_name: What the store's logs call it.
        seconds: How long they last.
        policy: JSON; narrows what the keys may do.
        endpoint_url: The service; None means AWS's own.
        region: Of the service.
        verify: Path of the authorities to check its certificate by.

    Raises:
        CredentialsError: The service refused or did not answer.
        UnsupportedError: The extra `s3` is not installed.
    """
    botocore = _botocore()
    asked: dict[str, Any] = {
        "RoleArn": role_arn,
        "RoleSessionName": session_name,
        "DurationSeconds": seconds,
    } | ({} if policy is None else {"Policy": policy})
    try:
        client = botocore.session.Session().create_client(
            "sts",
            region_name=region or "us-east-1",
            endpoint_url=endpoint_url,
            aws_access_key_id=base.access_key_id,
            aws_secret_access_key=base.secret_access_key,
            aws_session_token=base.session_token,
            verify=verify,
            config=botocore.config.Config(ignore_configured_endpoint_urls=True),
        )
        found = client.assume_role(**asked)["Credentials"]
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no code")
        raise CredentialsError(f"role {role_arn} cannot be assumed ({code})") from None
    except botocore.exceptions.BotoCoreError as error:
        raise CredentialsError(
            f"role {role_arn} cannot be assumed ({type(error).__name__})"
        ) from None
    return Keys(
        found["AccessKeyId"],
        found["SecretAccessKey"],
        found["SessionToken"],
        int(found["Expiration"].timestamp()) * 10**9,
    )


# Any: botocore has no types.
def _botocore() -> Any:
    try:
        import botocore.config
        import botocore.exceptions
        import botocore.session
    except ImportError as error:
        raise UnsupportedError(
            "s3:// needs the extra s3: pip install 'deltacat-sources[s3]'"
        ) from error
    return botocore
