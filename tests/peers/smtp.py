"""A receiver of mail for tests: `smtp.py TLS-FOLDER LISTENING-FILE`.

Rules by the local part of a recipient say what RCPT answers; `tempfail` begins with 451 and `bounce` with 550.
Over HTTP:
  GET    /messages?to=&atleast=N&wait=SECONDS   the messages, oldest first; waits until there are N of them
  DELETE /messages                              forgets them
  GET    /attempts?to=&atleast=N&wait=SECONDS   every RCPT with the code it was answered with
  PUT    /rules/LOCAL {"code": 451, "times": 3} answers so the next 3 times (without "times": always)
  DELETE /rules/LOCAL                           takes mail for it again
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.smtp import SMTP

TEXTS = {451: "4.3.0 try again later", 550: "5.1.1 no such user"}


class Box:
    """Everything that came. Its condition wakes those who wait for more."""

    def __init__(self):
        self.changed = threading.Condition()
        self.messages, self.attempts = [], []
        self.rules = {"tempfail": {"code": 451}, "bounce": {"code": 550}}

    def judge(self, address):
        local = address.partition("@")[0].lower()
        with self.changed:
            rule = self.rules.get(local)
            code = rule["code"] if rule else 250
            if rule and rule.get("times") is not None:
                rule["times"] -= 1
                if rule["times"] <= 0:
                    del self.rules[local]
            self.attempts.append({"to": address, "code": code})
            self.changed.notify_all()
        return code

    def keep(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, kind, to, atleast, seconds):
        def found():
            return [entry for entry in getattr(self, kind) if not to or to in entry["to"]]

        with self.changed:
            self.changed.wait_for(lambda: len(found()) >= atleast, seconds)
            return list(found())


class Receiver:
    """The hooks of aiosmtpd."""

    def __init__(self, box):
        self.box = box

    async def handle_RCPT(self, server, session, envelope, address, options):
        code = self.box.judge(address)
        if code != 250:
            return f"{code} {TEXTS.get(code, '4.0.0 refused by a rule of this test')}"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = parsed.get_body(preferencelist=("plain", "html"))
        self.box.keep({
            "from": envelope.mail_from,
            "to": list(envelope.rcpt_tos),
            "tls": session.ssl is not None,
            "subject": parsed["subject"],
            "headers": {key.lower(): value for key, value in parsed.items()},
            "text": body.get_content() if body else "",
            "raw": envelope.content.decode("utf-8", "replace"),
        })
        return "250 2.0.0 kept"


class Side(BaseHTTPRequestHandler):
    """The HTTP side."""

    box = None

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        kind = url.path.strip("/")
        if kind not in ("messages", "attempts"):
            return self.reply(404, {"error": "messages or attempts"})
        wait = float(query.get("wait", 0))
        self.reply(200, self.box.wait(kind, query.get("to"), int(query.get("atleast", 0)), wait))

    def do_PUT(self):
        rule = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.box.changed:
            self.box.rules[self.path.rpartition("/")[2]] = rule
        self.reply(200, rule)

    def do_DELETE(self):
        with self.box.changed:
            if self.path == "/messages":
                self.box.messages.clear()
            else:
                self.box.rules.pop(self.path.rpartition("/")[2], None)
        self.reply(200, {})


async def main(folder, listening):
    box = Box()
    Side.box = box
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(os.path.join(folder, "server.pem"), os.path.join(folder, "server.key"))

    def smtp(**more):
        return lambda: SMTP(Receiver(box), hostname="localhost", enable_SMTPUTF8=True, **more)

    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(smtp(tls_context=tls, require_starttls=True), "127.0.0.1", 0),
        await loop.create_server(smtp(), "127.0.0.1", 0, ssl=tls),
        await loop.create_server(smtp(), "127.0.0.1", 0),
    ]
    side = ThreadingHTTPServer(("127.0.0.1", 0), Side)
    side.daemon_threads = True
    threading.Thread(target=side.serve_forever, daemon=True).start()
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    with open(listening + ".new", "w") as out:
        out.write("PORT={}\nTLS_PORT={}\nPLAIN_PORT={}\n".format(*ports))
        out.write(f"HTTP=http://127.0.0.1:{side.server_port}\n")
    os.rename(listening + ".new", listening)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
