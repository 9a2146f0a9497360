import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aggregator.simulator import ed25519, signatures
from aggregator.simulator.keys import KEYS, named

# RFC 8032, section 7.1.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf"
            "9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f"
            "11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_the_standards_own_examples(seed, public, message, signature):
    """Keys and signatures are those of RFC 8032, and one changed bit anywhere is noticed."""
    seed, public, message, signature = map(bytes.fromhex, (seed, public, message, signature))
    assert ed25519.public_key(seed) == public
    assert ed25519.sign(seed, message) == signature
    assert ed25519.verify(public, message, signature)
    assert not ed25519.verify(public, message + b"x", signature)
    for place in (0, 31, 32, 63):
        wrong = bytearray(signature)
        wrong[place] ^= 1
        assert not ed25519.verify(public, message, bytes(wrong))


@pytest.mark.parametrize(
    ("public", "signature"),
    [(b"", b""), (bytes(32), bytes(63)), (b"\xff" * 32, bytes(64)), (bytes(32), b"\xff" * 64)],
)
def test_what_is_no_key_or_no_signature(public, signature):
    """It is refused, without an error."""
    assert not ed25519.verify(public, b"", signature)


def test_the_built_in_keys_are_what_libraries_read():
    """The PEM of each Ed25519 key signs what the simulator accepts."""
    for key in (named("binance", "ed25519"), named("binance", "ed25519-viewer")):
        private = load_pem_private_key(key.secret.encode(), None)
        assert private.public_key().public_bytes_raw() == key.public
        assert ed25519.verify(key.public, b"a=1", private.sign(b"a=1"))
    with pytest.raises(ValueError, match="no Ed25519"):
        _ = named("binance", "main").public


def test_signatures_of_both_venues():
    """They hold for what was signed alone; hexadecimal digits may be of either case."""
    assert len({(key.venue, key.api_key) for key in KEYS}) == len(KEYS)
    for key in (key for key in KEYS if key.venue == "binance"):
        sign = signatures.binance(key, "a=1&b=2")
        assert signatures.binance_holds(key, "a=1&b=2", sign)
        assert not signatures.binance_holds(key, "a=1&b=3", sign)
        assert not signatures.binance_holds(key, "a=1&b=2", "no signature")
        assert signatures.binance_holds(key, "a=1&b=2", sign.upper()) == (key.seed is None)
    # The example in OKX's documentation is of another secret; this is the form of it.
    okx = named("okx", "main")
    sign = signatures.okx(okx.secret, "1538054050", "GET", "/users/self/verify")
    assert signatures.okx_holds(okx, sign, "1538054050", "GET", "/users/self/verify")
    assert not signatures.okx_holds(okx, sign, "1538054051", "GET", "/users/self/verify")
