"""OpenSearch assembled of its Maven artifacts: the server and the module that speaks HTTP.

Index, bulk, search, aggregations, templates, aliases and point in time work; there is no plugin (no
security, no index life cycle) and no other module (no painless, no reindex, no deletion by query).
"""

from pathlib import Path

from lab.paths import building, cache_root, content_key, locked
from lab.services.endpoint import Endpoint
from lab.services.searchnode import HEAP, java_home, maven, start_node
from lab.state import LabRecord

VERSION = "2.19.6"
LOG4J_VERSION = "2.25.4"
"""As the server's own pom has it, which calls it optional; the server cannot start without."""

SERVER = (
    f"org.opensearch:opensearch:{VERSION}",
    f"org.opensearch:opensearch-plugin-classloader:{VERSION}",
    f"org.apache.logging.log4j:log4j-core:{LOG4J_VERSION}",
)
NETWORK = (f"org.opensearch.plugin:transport-netty4-client:{VERSION}",)

DESCRIPTOR = f"""\
name=transport-netty4
description=HTTP and transport by Netty
version={VERSION}
opensearch.version={VERSION}
java.version=11
classname=org.opensearch.transport.Netty4Plugin
"""

POLICY = """\
grant {
  permission java.net.SocketPermission "*", "accept,connect";
  permission java.io.FilePermission "/proc/sys/net/core/somaxconn", "read";
  permission java.util.PropertyPermission "sun.nio.ch.bugLevel", "write";
  permission java.lang.RuntimePermission "*";
};
"""
"""What the module may do under the server's security manager; no less than in the real thing."""

LOGGING = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""

JAVA_OPTIONS = (
    "-Djava.security.manager=allow",
    # Its security manager denies what Netty and log4j would try otherwise.
    "-Dio.netty.noUnsafe=true",
    "-Dio.netty.noKeySetOptimization=true",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
)


def start_opensearch(record: LabRecord, folder_name: str) -> Endpoint:
    """Start one node with 512 MiB of heap; returns when its state is at least yellow."""
    folder = record.folder / folder_name
    return start_node(
        record,
        folder_name,
        java_home() / "bin" / "java",
        *HEAP,
        *JAVA_OPTIONS,
        f"-Djava.io.tmpdir={folder / 'data'}",
        f"-Dopensearch.path.home={folder}",
        f"-Dopensearch.path.conf={folder / 'config'}",
        "-cp",
        folder / "lib" / "*",
        "org.opensearch.bootstrap.OpenSearch",
        distribution=ensure_opensearch(),
        settings_file="opensearch.yml",
    )


def ensure_opensearch() -> Path:
    """Return the assembled distribution, fetching its parts with Maven when the cache lacks it."""
    key = content_key(*SERVER, *NETWORK, DESCRIPTOR, POLICY, LOGGING)
    folder = cache_root() / f"opensearch-{VERSION}-{key}"
    with locked("opensearch"):
        if not folder.exists():
            _assemble(folder)
    return folder


def _assemble(folder: Path) -> None:
    with building(folder) as target:
        for name in ("config", "plugins"):
            (target / name).mkdir()
        (target / "config" / "log4j2.properties").write_text(LOGGING)
        _fetch(target / "lib", *SERVER)
        module = target / "modules" / "transport-netty4"
        _fetch(module, *NETWORK)
        (module / "plugin-descriptor.properties").write_text(DESCRIPTOR)
        (module / "plugin-security.policy").write_text(POLICY)


def _fetch(folder: Path, *artifacts: str) -> None:
    """Put these artifacts and all that they need at run time into a folder."""
    folder.mkdir(parents=True)
    pom = folder / "pom.xml"
    pom.write_text(_pom(artifacts))
    maven(
        "dependency:copy-dependencies",
        f"-DoutputDirectory={folder}", "-DincludeScope=runtime",
        cwd=folder,
    )  # fmt: skip
    pom.unlink()


def _pom(artifacts: tuple[str, ...]) -> str:
    dependencies = ""
    for group, name, version in (artifact.split(":") for artifact in artifacts):
        dependencies += (
            f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            f"<version>{version}</version></dependency>"
        )
    return (
        "<project><modelVersion>4.0.0</modelVersion>"
        "<groupId>lab</groupId><artifactId>opensearch</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )
