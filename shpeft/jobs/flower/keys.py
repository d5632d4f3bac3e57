"""The keys by which the coordinator knows its sites: elliptic curves in OpenSSH's files, as Flower takes them."""

from pathlib import Path
from typing import TYPE_CHECKING

from shpeft.errors import ConfigError
from shpeft.support.bounded_files import read_regular_file
from shpeft.support.limits import DOCUMENT_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MADE_BY = "Make a pair with: ssh-keygen -t ecdsa -b 384 -N '' -f NAME"


def read_file(path: Path) -> bytes:
    """Return the content of a file of a key or certificate.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return read_regular_file(path, DOCUMENT_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The file {path} cannot be read: {reason}.") from None


def read_private_key(path: Path) -> "EllipticCurvePrivateKey":
    """Return the private key of a site.

    Raises:
        ConfigError: the file cannot be read, or holds another kind of key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    data = read_file(path)
    try:
        key = load_ssh_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is not a private ECDSA key without a passphrase. {MADE_BY}")
    return key


def read_public_key(path: Path) -> bytes:
    """Return the public key of a site, as PEM.

    Raises:
        ConfigError: the file cannot be read, or holds another kind of key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

    data = read_file(path)
    try:
        key = load_ssh_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey):
        raise ConfigError(f"{path} is not a public ECDSA key. {MADE_BY}")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public_keys(paths: "tuple[Path, ...]") -> dict[str, bytes]:
    """Return public keys by the names of their files, which are the names of the sites.

    Raises:
        ConfigError: a file cannot be read, holds another kind of key, or two sites have one name or key.
    """
    keys = {path.stem: read_public_key(path) for path in paths}
    if not keys:
        raise ConfigError(f"Name the public key of each site, such as north.pub. {MADE_BY}")
    if len(keys) < len(paths) or len(set(keys.values())) < len(paths):
        raise ConfigError("Two sites have the same name or the same key. Give each a key and a file of its own.")
    return keys
