"""The token endpoint: what oauth2.googleapis.com, iamcredentials and the certificates' URLs do."""

import base64
import time

import google.auth.crypt
import google.auth.jwt
from cryptography import x509
from flask import Flask, abort, request

from local import tokens
from local.project import may_mint, read

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCES = ("https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token")
UNREASONABLE = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    " Check your iat and exp values in the JWT claim."
)


class Rejected(Exception):
    """An error and its description, as OAuth has them."""


def token_endpoint(port: int) -> Flask:
    app = Flask(__name__, static_folder=None)

    @app.before_request
    def guard():
        if request.host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            abort(404)

    @app.errorhandler(Rejected)
    def rejected(error):
        return {"error": error.args[0], "error_description": error.args[1]}, 400

    @app.post("/token")
    def exchange():
        if request.form.get("grant_type") != JWT_BEARER:
            problem = f"Invalid grant_type: {request.form.get('grant_type', '')}"
            raise Rejected("unsupported_grant_type", problem)
        account, claims = checked(request.form.get("assertion", ""))
        if "target_audience" in claims:
            audience = claims["target_audience"]
            return {"id_token": tokens.id_token(account, audience, azp=account["email"])}
        access_token = tokens.access_token(account)
        return {"access_token": access_token, "expires_in": tokens.LIFETIME, "token_type": "Bearer"}

    @app.post("/v1/projects/-/serviceAccounts/<email>:generateIdToken")
    def generate_id_token(email):
        try:
            caller = tokens.caller(request.headers.get("Authorization", ""))
        except ValueError:
            return api_error(401, "UNAUTHENTICATED", "Request had invalid credentials.")
        target = read(f"accounts/{email}")
        if not target or target["kind"] != "serviceAccount" or not may_mint(caller, target):
            denied = (
                "Permission 'iam.serviceAccounts.getOpenIdToken' denied on resource"
                " (or it may not exist)."
            )
            return api_error(403, "PERMISSION_DENIED", denied)
        body = request.get_json(silent=True)
        if not isinstance(body, dict) or not isinstance(body.get("audience"), str):
            return api_error(400, "INVALID_ARGUMENT", "audience is required.")
        with_email = body.get("includeEmail") is True
        return {"token": tokens.id_token(target, body["audience"], with_email)}

    @app.get("/oauth2/v1/certs")
    def pem():
        return tokens.certificates()

    @app.get("/oauth2/v3/certs")
    def jwks():
        [(kid, certificate)] = tokens.certificates().items()
        key = x509.load_pem_x509_certificate(certificate.encode()).public_key().public_numbers()
        numbers = {"n": encoded(key.n), "e": encoded(key.e)}
        return {"keys": [{"kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", **numbers}]}

    return app


def checked(assertion: str) -> tuple[dict, dict]:
    """The account that signed the assertion, and its claims; checked in Google's order."""
    try:
        header = google.auth.jwt.decode_header(assertion)
        claims = google.auth.jwt.decode(assertion, verify=False)
        signed, _, signature = assertion.encode().rpartition(b".")
        signature = base64.urlsafe_b64decode(signature + b"==")
    except Exception:
        raise Rejected("invalid_request", "Bad Request") from None
    if header.get("alg") != "RS256":
        raise Rejected("invalid_grant", "Invalid JWT Signature.")
    issuer = claims.get("iss")
    account = read(f"accounts/{issuer}") if isinstance(issuer, str) else None
    if not account or account["kind"] != "serviceAccount":
        raise Rejected("invalid_grant", "Invalid grant: account not found")
    keys = account.get("keys", {}).values()
    if not google.auth.crypt.verify_signature(signed, signature, list(keys)):
        raise Rejected("invalid_grant", "Invalid JWT Signature.")
    for claim, meaning in (("iat", "issued at"), ("exp", "expiration time")):
        if not isinstance(claims.get(claim), (int, float)):
            raise Rejected("invalid_grant", f"Invalid JWT: {claim} ({meaning}) is not set.")
    issued, expires = claims["iat"], claims["exp"]
    if not issued <= time.time() < expires or expires - issued > 3600:
        raise Rejected("invalid_grant", UNREASONABLE)
    if not isinstance(claims.get("target_audience", claims.get("scope")), str):
        raise Rejected("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    if claims.get("aud") not in (*AUDIENCES, request.base_url):
        raise Rejected("invalid_grant", "Invalid JWT: Failed audience check.")
    return account, claims


def api_error(code: int, status: str, message: str):
    return {"error": {"code": code, "message": message, "status": status}}, code


def encoded(number: int) -> str:
    size = (number.bit_length() + 7) // 8
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
