"""An identity provider that lies as it is told: `oidc_liar.py TLS-FOLDER SECRET-FILE LISTENING-FILE`.

Over HTTPS it does what a provider does (document, keys, authorization without asking anybody, token), and checks client, code
and PKCE verifier as a provider must. Over HTTP it is told how:
  PUT  /mode {"mode": "nonce", "sub": ..., "claims": {...}}   what to lie about from now on; "" is the truth
  POST /rotate                                     another signing key, under another name
  POST /logout {"sub": ..., "jti": ..., ...}       gives a signed logout token; further members are its claims
  GET  /asked                                      what was asked of it: a count for each path
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import secrets
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ACR = "https://refeds.org/profile/sfa"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value):
    return b64(json.dumps(value).encode())


class Key:
    def __init__(self, kid):
        self.kid, self.private = kid, rsa.generate_private_key(65537, 2048)

    def public(self):
        numbers = self.private.public_key().public_numbers()
        n = numbers.n.to_bytes(256, "big")
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": b64(n), "e": "AQAB"}

    def pem(self):
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)

    def sign(self, header, payload):
        message = f"{part(header)}.{part(payload)}"
        signature = self.private.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{message}.{b64(signature)}"


class Liar:
    def __init__(self, secret):
        self.lock, self.secret, self.issuer = threading.Lock(), secret, None
        self.mode, self.sub, self.claims = "", "carol-0003", {}
        self.key, self.stranger = Key("first"), Key("first")
        self.codes, self.asked = {}, collections.Counter()

    def document(self):
        return {
            "issuer": self.issuer + ("/other" if self.mode == "document" else ""),
            "authorization_endpoint": self.issuer + "/auth",
            "token_endpoint": self.issuer + "/token",
            "jwks_uri": self.issuer + "/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def back(self, asked):
        """Where the browser is sent back to."""
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.issuer, "session_state": "of no interest"}
        if self.mode == "state":
            answer["state"] = secrets.token_urlsafe(32)
        elif self.mode == "mix-up":
            answer["iss"] = "https://another.example"
        elif self.mode == "unnamed":
            del answer["iss"]
        return asked["redirect_uri"] + "?" + urllib.parse.urlencode(answer)

    def redeem(self, authorization, form):
        """The answer of the token endpoint, or why there is none."""
        user, _, word = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (urllib.parse.unquote(user), urllib.parse.unquote(word)) != ("gateway", self.secret):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        verifier = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or form.get("grant_type") != "authorization_code"
            or asked.get("code_challenge_method") != "S256"
            or asked["code_challenge"] != verifier
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "of no use", "token_type": "Bearer", "id_token": self.token(asked["nonce"])}

    def token(self, nonce):
        now, mode = int(time.time()), self.mode
        header = {"alg": "RS256", "kid": self.key.kid, "typ": "JWT"}
        payload = {"iss": self.issuer, "sub": self.sub, "aud": "gateway", "iat": now, "exp": now + 300,
                   "nonce": nonce, "auth_time": now, "acr": ACR, "amr": ["pwd"], "name": "Carol Example", **self.claims}
        lies = {
            "nonce": {"nonce": secrets.token_urlsafe(32)},
            "aud": {"aud": "another"},
            "aud-more": {"aud": ["gateway", "another"], "azp": "gateway"},
            "azp": {"azp": "another"},
            "iss": {"iss": "https://another.example"},
            "expired": {"iat": now - 400, "exp": now - 100},
            "early": {"nbf": now + 300},
            "old": {"iat": now - 4000},
            "stale": {"auth_time": now - 4000},
        }
        payload.update(lies.get(mode, {}))
        if mode == "no-sub":
            del payload["sub"]
        if mode == "no-nonce":
            del payload["nonce"]
        if mode == "none":
            return f"{part({'alg': 'none'})}.{part(payload)}."
        if mode == "confused":
            # RS256's public key as the secret of HS256: whoever lets the header choose the algorithm takes it.
            message = f"{part({**header, 'alg': 'HS256'})}.{part(payload)}"
            return f"{message}.{b64(hmac.digest(self.key.pem(), message.encode(), 'sha256'))}"
        if mode == "kid":
            header["kid"] = "nobody's"
        if mode == "foreign-jwks":
            header["jku"] = self.issuer + "/foreign"
            header["jwk"] = self.stranger.public()
            return self.stranger.sign(header, payload)
        if mode == "typ":
            header["typ"] = "at+jwt"
        if mode == "unsigned":
            return self.key.sign(header, payload).rpartition(".")[0] + "."
        return self.key.sign(header, payload)

    def logout(self, said):
        now = int(time.time())
        payload = {"iss": self.issuer, "aud": "gateway", "iat": now, "exp": now + 120, "jti": secrets.token_urlsafe(16),
                   "events": {"http://schemas.openid.net/event/backchannel-logout": {}}, **said}
        return self.key.sign({"alg": "RS256", "kid": self.key.kid, "typ": "logout+jwt"}, payload)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, location=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()


class Provider(Handler):
    def do_GET(self):
        url, liar = urllib.parse.urlsplit(self.path), self.server.liar
        with liar.lock:
            liar.asked[url.path] += 1
            if url.path == "/.well-known/openid-configuration":
                if liar.mode == "redirect":
                    return self.answer(302, {}, liar.issuer + "/document")
                if liar.mode == "endless":
                    return self.answer(200, {**liar.document(), "more": "x" * 600_000})
                return self.answer(200, liar.document())
            if url.path == "/document":
                return self.answer(200, liar.document())
            if url.path == "/jwks":
                return self.answer(200, {"keys": [liar.key.public()]})
            if url.path == "/foreign":
                return self.answer(200, {"keys": [liar.stranger.public()]})
            if url.path == "/auth":
                asked = dict(urllib.parse.parse_qsl(url.query))
                return self.answer(303, {}, liar.back(asked))
        return self.answer(404, {})

    def do_POST(self):
        liar, form = self.server.liar, dict(urllib.parse.parse_qsl(self.body()))
        with liar.lock:
            liar.asked[self.path] += 1
            if self.path != "/token":
                return self.answer(404, {})
            return self.answer(*liar.redeem(self.headers.get("Authorization", ""), form))


class Side(Handler):
    def do_GET(self):
        with self.server.liar.lock:
            self.answer(200, self.server.liar.asked)

    def do_PUT(self):
        liar, said = self.server.liar, json.loads(self.body())
        with liar.lock:
            liar.mode, liar.sub = said.get("mode", ""), said.get("sub", "carol-0003")
            liar.claims = said.get("claims", {})
            self.answer(200, {})

    def do_POST(self):
        liar, text = self.server.liar, self.body()
        with liar.lock:
            if self.path == "/rotate":
                liar.key = Key("second")
                return self.answer(200, {})
            return self.answer(200, {"token": liar.logout(json.loads(text))})


def serve(handler, liar, tls=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.liar, server.daemon_threads = liar, True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{tls}/server.pem", f"{tls}/server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    tls, secret, listening = sys.argv[1:]
    with open(secret) as file:
        liar = Liar(file.read().strip())
    liar.issuer = f"https://localhost:{serve(Provider, liar, tls)}"
    side = serve(Side, liar)
    with open(listening + ".part", "w") as file:
        file.write(f"LIAR={liar.issuer}\nLIAR_HTTP=http://127.0.0.1:{side}\n")
    os.rename(listening + ".part", listening)
    threading.Event().wait()


if __name__ == "__main__":
    main()
