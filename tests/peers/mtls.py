"""An HTTPS server that demands a client certificate: `mtls.py TLS-FOLDER CLIENT-CA LISTENING-FILE`.

OpenSSL verifies the chain, proxy certificates (RFC 3820) included. One port speaks TLS 1.3 only, one TLS 1.2 only; both
resume sessions, so that a client that resumes another person's session is found out. Every request is answered with
JSON: what came, and the chain that the connection was made with. Over plain HTTP on a third port:
  GET    /connections?atleast=N&wait=SECONDS   every connection: version, resumed, chain, requests, or the error
  DELETE /connections                          forgets them
"""

import json
import os
import socketserver
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

changed = threading.Condition()
connections = []


def name(parts):
    """A distinguished name in the order of the certificate, as `/O=Example/CN=x`."""
    short = {"organizationName": "O", "organizationalUnitName": "OU", "commonName": "CN", "countryName": "C",
             "domainComponent": "DC", "localityName": "L", "stateOrProvinceName": "ST"}
    return "".join(f"/{short.get(key, key)}={value}" for rdn in parts for key, value in rdn)


def chain(connection):
    """The verified chain, leaf first."""
    inner = getattr(connection, "_sslobj", connection)
    described = []
    # A resumed session remembers the leaf only.
    infos = [certificate.get_info() for certificate in inner.get_verified_chain() or []] or [connection.getpeercert()]
    for info in infos:
        described.append({
            "subject": name(info["subject"]),
            "issuer": name(info["issuer"]),
            "serial": str(int(info["serialNumber"], 16)),
            "not_before": info["notBefore"],
            "not_after": info["notAfter"],
        })
    return described


class Upstream(BaseHTTPRequestHandler):
    """Answers every method with what it saw."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.known = None

    def answer(self):
        if self.known is None:
            self.known = {
                "tls": self.connection.version(),
                "resumed": self.connection.session_reused,
                "chain": chain(self.connection),
                "requests": [],
            }
            with changed:
                self.known["connection"] = len(connections) + 1
                connections.append(self.known)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with changed:
            self.known["requests"].append(f"{self.command} {self.path}")
            changed.notify_all()
        reply = {key: self.known[key] for key in ("connection", "tls", "resumed", "chain")}
        reply.update(method=self.command, path=self.path, headers=list(self.headers.items()), body=len(body))
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = answer


class Server(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread and records those that fail."""

    daemon_threads = True

    def __init__(self, context):
        super().__init__(("127.0.0.1", 0), Upstream)
        self.context = context

    def finish_request(self, request, client_address):
        request.settimeout(30)
        try:
            secured = self.context.wrap_socket(request, server_side=True)
        except OSError as error:
            with changed:
                connections.append({"connection": len(connections) + 1, "error": str(error)})
                changed.notify_all()
            return
        try:
            super().finish_request(secured, client_address)
        except OSError:
            pass
        finally:
            secured.close()

    def handle_error(self, request, client_address):
        pass


class Side(BaseHTTPRequestHandler):
    """Tells what happened."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        with changed:
            changed.wait_for(lambda: len(connections) >= int(query.get("atleast", 0)), float(query.get("wait", 0)))
            data = json.dumps(connections).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_DELETE(self):
        with changed:
            connections.clear()
        self.send_response(204)
        self.end_headers()


def secure(folder, client_ca, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(os.path.join(folder, "server.pem"), os.path.join(folder, "server.key"))
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
    return context


def main(folder, client_ca, listening):
    servers = [Server(secure(folder, client_ca, version)) for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)]
    side = ThreadingHTTPServer(("127.0.0.1", 0), Side)
    side.daemon_threads = True
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(listening + ".new", "w") as out:
        out.write(f"PORT={servers[0].server_port}\nTLS12_PORT={servers[1].server_port}\n")
        out.write(f"HTTP=http://127.0.0.1:{side.server_port}\n")
    os.rename(listening + ".new", listening)
    side.serve_forever()


main(*sys.argv[1:])
