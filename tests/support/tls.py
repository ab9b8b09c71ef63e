"""A broker with TLS: listeners with and without clients' certificates, with passwords, and with a wrong name.

I/O: processes, files.
"""

from __future__ import annotations

from pathlib import Path

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from console.local.broker import LocalBroker
from console.local.ports import free_ports
from tests.support.certificates import PASSWORD, Authority

USER = "ops"
LISTENERS = ("TLS", "MUTUAL", "SIGNED", "ASTRAY")
JAAS = "org.apache.kafka.common.security"
# Later lines win over the usual ones above them.
PROPERTIES = """
listeners={listeners},PLAINTEXT://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners},PLAINTEXT://127.0.0.1:{inside}
listener.security.protocol.map=TLS:SSL,MUTUAL:SSL,SIGNED:SASL_SSL,ASTRAY:SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.mutual.ssl.client.auth=required
listener.name.astray.ssl.keystore.location={astray}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.signed.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_{user}="{password}";
listener.name.signed.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
"""


class TlsBroker(LocalBroker):
    """`at` gives the address of a listener: TLS, MUTUAL (wants a client's certificate), SIGNED (SASL) or ASTRAY, whose
    certificate is another host's. Without TLS it is `address`."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, heap_mib=384, short_lived=True)
        self._folder = data_dir
        self._at = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.authority = Authority(data_dir / "certificates", "ca")

    def at(self, listener: str) -> str:
        return f"127.0.0.1:{self._at[listener]}"

    def _write_config(self) -> Path:
        config = super()._write_config()
        inside, controller = (self._folder / "ports").read_text().split()
        more = PROPERTIES.format(
            listeners=",".join(f"{name}://{self.at(name)}" for name in LISTENERS),
            inside=inside,
            controller=controller,
            server=self._store("server", "127.0.0.1", "localhost"),
            astray=self._store("astray", "kafka.example.com"),
            ca=self.authority.path.absolute(),
            jaas=JAAS,
            user=USER,
            password=PASSWORD,
        )
        config.write_text(config.read_text() + more)
        return config

    def _store(self, name: str, *hosts: str) -> Path:
        """Kafka's key store in PEM: key and certificate in one file."""
        certificate, key = self.authority.issue(name, *hosts)
        store = certificate.with_suffix(".pem").absolute()
        store.write_bytes(key.read_bytes() + certificate.read_bytes())
        return store

    def know(self, user: str) -> None:
        """By SCRAM; by PLAIN it knows USER."""
        client = AdminClient({"bootstrap.servers": self.address})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, info, PASSWORD.encode())
        for future in client.alter_user_scram_credentials([change]).values():
            future.result()
