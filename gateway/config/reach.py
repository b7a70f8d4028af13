"""How a broker is reached: TLS, and what the network needs. These keys stand in an uplink, in a broker, or in both."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator

from gateway.config.problems import Conflict, refuse, refuse_together
from gateway.config.secret import THREE_WAYS, Secret, SecretSchema
from gateway.config.section import ReadableFile, Section, Text
from gateway.mqtt import Network, Tls
from gateway.mqtt.address import Proxy
from gateway.units import Duration

# The value of such a header does not stand in the config itself.
_COULD_BE_SECRET = re.compile(r"auth|cookie|credential|key|pass|secret|sign|token", re.IGNORECASE)


def _proxy(url: str) -> str:
    try:
        return str(Proxy.parse(url))
    except ValueError as error:
        raise refuse("proxy", str(error)) from None


def _proxy_username(value: str) -> str:
    if ":" in value:
        raise refuse("proxy", 'must not have a ":" in it, which ends a user name where it is sent')
    return value


def _bind(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise refuse("bind", "must be an IP address of this machine") from None


def _alpn(value: str) -> str:
    if not value.isascii() or not 1 <= len(value) <= 255:
        raise refuse("alpn", "must be names of 1 to 255 ASCII characters")
    return value


def _header_name(name: str) -> str:
    try:
        Network(headers=((name, ""),))
    except ValueError:
        raise refuse("header", "is not one that can be given") from None
    return name


def _header(value: Any) -> Any:
    if isinstance(value, str):
        return SecretStr(value)
    if not isinstance(value, dict | SecretStr):
        raise refuse("header", f"must be a string, or {THREE_WAYS}")
    return value


def _printable(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise refuse("header", "must be printable ASCII characters")
    return value


def _no_secrets(headers: Any) -> Any:
    if not isinstance(headers, dict):
        return headers
    conflicts = [
        Conflict((name,), (name,), f"headers: the value of {name} could be a secret; write {THREE_WAYS}")
        for name, value in headers.items()
        if isinstance(value, str) and _COULD_BE_SECRET.search(name)
    ]
    if conflicts:
        raise refuse_together(conflicts)
    return headers


Header: TypeAlias = Annotated[
    Secret,
    BeforeValidator(_header),
    AfterValidator(_printable),
    WithJsonSchema({"anyOf": [{"type": "string"}, SecretSchema]}),
]
Headers: TypeAlias = Annotated[dict[Annotated[str, AfterValidator(_header_name)], Header], BeforeValidator(_no_secrets)]
ProxyUrl: TypeAlias = Annotated[
    str, AfterValidator(_proxy), WithJsonSchema({"type": "string", "pattern": r"^(http|socks5h?)://[^/@?]+/?$"})
]
Bind: TypeAlias = Annotated[str, AfterValidator(_bind)]
Alpn: TypeAlias = Annotated[str, AfterValidator(_alpn)]


class TlsSection(Section):
    """How a broker behind mqtts:// or wss:// is recognised, and how this gateway proves who it is."""

    ca: ReadableFile | None = Field(
        default=None,
        description="PEM file of the authority that signed the broker's certificate. Default: the system's.",
    )
    certificate: ReadableFile | None = Field(
        default=None, description="PEM file of this gateway's own certificate, where the broker asks for one."
    )
    key: ReadableFile | None = Field(
        default=None, description="PEM file of the private key, unless it is in the certificate's file."
    )
    key_password: Secret | None = Field(default=None, description="Password of the private key.")
    insecure: bool = Field(
        default=False, description="Accept any certificate of any broker: for trying things out, never for use."
    )
    server_name: Text | None = Field(
        default=None, description="Name that the broker's certificate must carry. Default: the host in the URL."
    )
    alpn: list[Alpn] = Field(
        default=[], description="Protocols to offer in the handshake, best first; some clouds tell MQTT by them."
    )
    minimum_version: Literal["1.2", "1.3"] = Field(default="1.2", description="The oldest TLS that is spoken.")

    @model_validator(mode="after")
    def _together(self) -> Self:
        conflicts = [
            Conflict((key,), (key, "certificate"), f"{key} needs certificate beside it")
            for key in ("key", "key_password")
            if getattr(self, key) is not None and self.certificate is None
        ]
        if conflicts:
            raise refuse_together(conflicts)
        return self

    @property
    def options(self) -> Tls:
        """What the engine takes."""
        return Tls(
            ca=_text(self.ca),
            certificate=_text(self.certificate),
            key=_text(self.key),
            key_password=_told(self.key_password),
            insecure=self.insecure,
            server_name=self.server_name,
            alpn=tuple(self.alpn),
            minimum_version=self.minimum_version,
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _told(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


class ReachSection(Section):
    """What an uplink and a broker may say about TLS and the network."""

    tls: TlsSection | None = Field(
        default=None, description="TLS for mqtts:// and wss:// brokers. Without it: the system's authorities."
    )
    headers: Headers | None = Field(
        default=None,
        description="HTTP headers of the request for a WebSocket, for ws:// and wss:// brokers. "
        "A value that could be a secret is read like a password.",
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="Proxy: http://host:port, socks5://host:port, or socks5h://host:port to have names resolved there.",
    )
    proxy_username: Annotated[Text, AfterValidator(_proxy_username)] | None = Field(
        default=None, description="User name at the proxy."
    )
    proxy_password: Secret | None = Field(default=None, description="Password at the proxy.")
    bind: Bind | None = Field(default=None, description="IP address of this machine to connect from.")
    user_timeout: Duration | None = Field(
        default=None,
        ge=0.1,
        le=2_000_000,
        description="The kernel gives a link up that has not acknowledged sent bytes for this long (TCP_USER_TIMEOUT).",
    )

    @property
    def network(self) -> Network:
        """What the engine takes."""
        return Network(
            user_timeout=self.user_timeout,
            bind=self.bind,
            proxy=self.proxy,
            proxy_username=self.proxy_username,
            proxy_password=_told(self.proxy_password),
            headers=tuple((name, value.get_secret_value()) for name, value in (self.headers or {}).items()),
        )

    def out_of_place(self, schemes: set[str], who: str) -> list[Conflict]:
        """Return the conflicts of these keys with the brokers that there are; `who` has them in words."""
        fit = {
            "tls": (("mqtts", "wss"), "mqtts:// and wss:// brokers"),
            "headers": (("ws", "wss"), "ws:// and wss:// brokers"),
            **dict.fromkeys(("proxy", "bind", "user_timeout"), (("mqtt", "mqtts", "ws", "wss"), "brokers over TCP")),
        }
        verbs = {"headers": "are"}
        where = "url" if who.startswith("this one") else "brokers"
        return [
            Conflict((key,), (key, where), f"{key} {verbs.get(key, 'is')} for {words}, and {who}")
            for key, (fitting, words) in fit.items()
            if getattr(self, key) is not None and not schemes.intersection(fitting)
        ]

    def incomplete_proxy(self) -> list[Conflict]:
        """Return what the keys of the proxy lack: they go together."""
        needs = {"proxy_username": ("proxy", "proxy_password"), "proxy_password": ("proxy_username",)}
        return [
            Conflict((key,), (key, other), f"{key} needs {other} beside it")
            for key, others in needs.items()
            for other in others
            if getattr(self, key) is not None and getattr(self, other) is None
        ]
