"""Who somebody is, by a token: keys, JSON Web Tokens, one-time codes."""

from __future__ import annotations

import jwt as pyjwt
import pyotp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from pydantic import SecretStr, ValidationError

from aggregator import tokens
from aggregator.settings import Jwt, Token, User
from aggregator.tokens import Identity, Keyring, RejectedError, Role

SECRET = "s" * 32
NOW = 1_795_000_000.0
KEY, HASH = tokens.create("k1")
OTHER, _ = tokens.create("k1")


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def keyring(clock: Clock | None = None, **users: str) -> Keyring:
    return Keyring(
        {"k1": Token(user=1001, role="ops", hash=HASH)},
        {int(n[1:]): User(totp_secret=SecretStr(s)) for n, s in users.items()},
        Jwt(secret=SecretStr(SECRET), audience="aggregator"),
        clock or Clock(),
    )


def claims(**changes: object) -> dict[str, object]:
    found = {"sub": "7", "aud": "aggregator", "nbf": 0, "exp": 4_000_000_000} | changes
    return {name: value for name, value in found.items() if value is not None}


def web_token(secret: str = SECRET, algorithm: str = "HS256", **changes: object) -> str:
    return pyjwt.encode(claims(**changes), secret, algorithm=algorithm)


def rejected(ring: Keyring, token: str, otp: str | None = None) -> str:
    with pytest.raises(RejectedError) as found:
        ring.check(token, otp)
    assert not token or token not in str(found.value)
    return found.value.reason


def test_key():
    """It names its user and role; only its salted hash is kept, and each key has its own salt."""
    assert keyring().check(KEY) == Identity(1001, Role.OPS, "k1", proof=HASH)
    assert KEY.removeprefix("agg_k1_") not in HASH
    assert HASH.split("$")[1] != tokens.create("k1")[1].split("$")[1]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (OTHER, "unknown"),
        (KEY[:-1], "unknown"),
        (KEY + "A", "unknown"),
        (KEY.replace("k1", "k2"), "unknown"),
        ("", "malformed"),
        ("agg_k1_", "malformed"),
        ("agg_K1_" + 40 * "a", "malformed"),
        (KEY + "\n", "malformed"),
        ("ünïcode", "malformed"),
        ("a.b.c", "invalid"),
        ("..", "invalid"),
        ("x" * 9000, "malformed"),
    ],
    ids=range(12),
)
def test_what_is_no_key(token, reason):
    """Is refused, and the reason is a word of ours."""
    assert rejected(keyring(), token) == reason


def test_web_token():
    """It names its user; the role is reader if it does not say, and it lasts until it expires."""
    ring = keyring()
    found = ring.check(web_token())
    assert found._replace(proof="") == Identity(7, Role.READER, None, 4_000_000_000.0)
    assert SECRET not in repr(found)
    assert ring.check(web_token(role="admin")).role is Role.ADMIN
    assert ring.check(web_token(aud=["x", "aggregator"])).user_id == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"aud": None},
        {"nbf": None},
        {"exp": None},
        {"aud": "elsewhere"},
        {"nbf": 3_900_000_000},
        {"sub": "0"},
        {"sub": "-1"},
        {"sub": "1_0"},
        {"sub": "somebody"},
        {"sub": "1" * 30},
        {"exp": 10**400},
        {"role": "root"},
        {"role": 5},
    ],
    ids=str,
)
def test_web_token_that_lacks_something(changes):
    """Every claim that has to be there must be there, and be right."""
    assert rejected(keyring(), web_token(**changes)) == "invalid"


def test_web_token_that_has_expired():
    """That is told apart, for who looks at the metrics."""
    assert rejected(keyring(), web_token(exp=5)) == "expired"


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
def test_algorithm_is_not_the_tokens_choice(algorithm):
    """Another one, or none, is refused, whatever the header says: RFC 8725, 3.1."""
    assert rejected(keyring(), web_token("" if algorithm == "none" else SECRET * 2, algorithm))


def test_wrong_signature():
    """Of another secret."""
    assert rejected(keyring(), web_token("t" * 32)) == "invalid"


def test_issuer():
    """If one is configured, it has to be that one."""
    config = Jwt(secret=SecretStr(SECRET), audience="aggregator", issuer="us")
    ring = Keyring({}, {}, config)
    assert ring.check(web_token(iss="us")).user_id == 7
    assert rejected(ring, web_token()) == "invalid"
    assert rejected(ring, web_token(iss="them")) == "invalid"


def test_public_key():
    """Signed with the private key; its public part as an HMAC secret does not do."""
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    ring = Keyring(
        {}, {}, Jwt(algorithm="EdDSA", public_key=public.decode(), audience="aggregator")
    )
    assert ring.check(pyjwt.encode(claims(), private, algorithm="EdDSA")).user_id == 7
    assert rejected(ring, web_token("x" * 32)) == "invalid"


def test_without_web_tokens():
    """Where there is no `[jwt]`, none is good."""
    assert rejected(Keyring({}, {}, None), web_token()) == "malformed"
    assert not Keyring({}, {}, None)


def test_one_time_code():
    """The present one, or its neighbours; each once, and none older than one that was taken."""
    clock = Clock()
    secret = pyotp.random_base32()
    clock.now -= 300
    ring, totp = keyring(clock, u1001=secret), pyotp.TOTP(secret)
    # Of the time before the start nobody knows what was used.
    assert rejected(ring, KEY, totp.at(NOW - 300)) == "otp_wrong"
    clock.now += 300
    assert rejected(ring, KEY) == "otp_missing"
    assert rejected(ring, KEY, "000000x") == "otp_wrong"
    assert rejected(ring, KEY, "") == "otp_wrong"
    assert rejected(ring, KEY, totp.at(NOW - 90)) == "otp_wrong"
    assert ring.check(KEY, totp.at(NOW)).user_id == 1001
    assert rejected(ring, KEY, totp.at(NOW)) == "otp_wrong"
    assert rejected(ring, KEY, totp.at(NOW - 30)) == "otp_wrong"
    clock.now += 30
    assert ring.check(KEY, totp.at(NOW + 30)).user_id == 1001
    ring.replace(ring._tokens, ring._users, ring._jwt)
    assert rejected(ring, KEY, totp.at(NOW + 30)) == "otp_wrong"
    # A code that nobody asks for is no fault, and of another user not asked for.
    assert ring.check(web_token(), "123456").user_id == 7


def test_a_wrong_token_uses_up_no_code():
    """Who does not have the key can't make the owner's code void."""
    secret = pyotp.random_base32()
    ring, code = keyring(u1001=secret), pyotp.TOTP(secret).at(NOW + 30)
    assert rejected(ring, OTHER, code) == "unknown"
    assert ring.check(KEY, code).user_id == 1001


def test_codes_can_not_be_tried():
    """After five wrong ones none is looked at for ten minutes, not even the right one."""
    clock = Clock()
    secret = pyotp.random_base32()
    ring, totp = keyring(clock, u1001=secret), pyotp.TOTP(secret)
    clock.now += 60
    for _ in range(5):
        assert rejected(ring, KEY, "000000x") == "otp_wrong"
    assert rejected(ring, KEY, totp.at(clock.now)) == "otp_locked"
    # Of another user nothing is locked.
    assert ring.check(web_token()).user_id == 7
    clock.now += 600
    assert ring.check(KEY, totp.at(clock.now)).user_id == 1001


def test_web_tokens_checked_otherwise():
    """With another secret or audience those that were good are not any more."""
    clock = Clock()
    ring = keyring(clock)
    web = ring.check(web_token())
    assert ring.still_good(web)
    for changes in ({"secret": SecretStr("t" * 32)}, {"audience": "others"}):
        ring.replace(
            {}, {}, Jwt(**({"secret": SecretStr(SECRET), "audience": "aggregator"} | changes))
        )
        assert not ring.still_good(web)


@pytest.mark.parametrize("secret", ["JBSWY3DPEHPK3PXP", "not base 32 at all, not at all", "1" * 30])
def test_secret_of_codes(secret):
    """It has 128 bits, in base 32; else the configuration says so."""
    with pytest.raises(ValidationError):
        User(totp_secret=SecretStr(secret))


def test_still_good():
    """While the configuration has the key, as it was; while the token has not expired."""
    clock = Clock()
    ring = keyring(clock)
    key, web = ring.check(KEY), ring.check(web_token(exp=int(NOW) + 10**6))
    assert ring.still_good(key)
    assert ring.still_good(web)
    clock.now = NOW + 10**6
    assert not ring.still_good(web)
    for changed in ({}, {"k1": Token(user=1001, role="reader", hash=HASH)}):
        ring.replace(changed, {}, None)
        assert not ring.still_good(key)


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("reader", "reader", True),
        ("reader", "ops", False),
        ("ops", "reader", True),
        ("ops", "admin", False),
        ("admin", "ops", True),
    ],
)
def test_roles(one, other, may):
    """Each may what those before it may."""
    assert Role(one).may(Role(other)) is may


@pytest.mark.parametrize(
    "fields",
    [
        {"secret": "short"},
        {},
        {"algorithm": "RS256"},
        {"algorithm": "RS256", "public_key": "x"},
        {"algorithm": "none", "secret": SECRET},
    ],
    ids=str,
)
def test_configuration_of_web_tokens(fields):
    """It has the key that its algorithm needs, and a secret that can't be guessed."""
    with pytest.raises(ValidationError):
        Jwt(audience="x", **fields)
