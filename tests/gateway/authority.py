"""A certificate authority of the tests' own, and a client that believes in it."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway.wsclient import PATIENCE_S, Client, Gone

DAY = dt.timedelta(days=1)


class Authority:
    """
    Signs certificates for this machine.

    Args:
        folder: where their files are to be; its own is `ca.pem`.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name.from_rfc4514_string("CN=authority")
        certificate = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.path = folder / "ca.pem"
        self._write(self.path, certificate)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey):
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )

    def _write(self, path: Path, builder: x509.CertificateBuilder) -> None:
        certificate = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str = "server", password: bytes | None = None) -> tuple[Path, Path]:
        """Write a certificate for this machine and its key; return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        subject = x509.Name.from_rfc4514_string(f"CN={name}")
        certificate, secret = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        builder = self._builder(subject, key)
        self._write(
            certificate, builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
        )
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password)
                if password
                else serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def trust(self) -> ssl.SSLContext:
        """Return what a client of its own has."""
        return ssl.create_default_context(cafile=self.path)


class SecureClient(Client):
    """The tests' client by TLS: it too reads only when asked."""

    context: ssl.SSLContext
    """What `open` connects with."""

    _tls: ssl.SSLObject

    @classmethod
    async def open(cls, port: int, receive_buffer: int | None = None) -> Self:
        client = await super().open(port, receive_buffer)
        try:
            await client.secure()
        except BaseException:
            client.sock.close()
            raise
        return client

    async def secure(self) -> None:
        """Do the handshake of TLS."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname="localhost"
        )
        await self._until_done(self._tls.do_handshake)

    @property
    def alpn(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        return self._tls.version()

    @property
    def serial(self) -> str:
        """The serial number of what the server has shown."""
        return str(self._tls.getpeercert()["serialNumber"])

    async def _until_done(self, step):
        """Do a step of TLS, and send and receive what it needs."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            finally:
                await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await super().write(self._outgoing.read())

    async def _fill(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
            except ConnectionError as e:
                raise Gone from e
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def more(self, most: int = 262_144) -> int:
        try:
            data = await self._until_done(lambda: self._tls.read(most))
        except (ssl.SSLError, ConnectionError) as e:
            raise Gone from e
        if not data:
            raise Gone
        self.buffer += data
        return len(data)

    async def say_goodbye(self) -> None:
        """End TLS from this side, as a program does that closes in order."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            await self._flush()
