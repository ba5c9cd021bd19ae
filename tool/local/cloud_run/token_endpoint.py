"""The token endpoint: what oauth2.googleapis.com, iamcredentials and the certificates' URLs do."""

import datetime
import json
import re
import time
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from cryptography import x509

from tool.local import roles, state, tokens

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCES = ("https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token")
UNREASONABLE = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    " Check your iat and exp values in the JWT claim."
)
LARGEST = 65536  # bytes of a body
MAKE = re.compile(r"/v1/projects/-/serviceAccounts/([^/]+):generate(Id|Access)Token")


class Rejected(Exception):
    """An error and its description, as OAuth has them."""


class ApiError(Exception):
    """A status code, its name and a message, as Google's APIs have them."""


class TokenEndpoint:
    def __init__(self, port: int):
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        try:
            return await self.answer(request)
        except Rejected as error:
            name, description = error.args
            answer = {"error": name, "error_description": description}
            return web.json_response(answer, status=400)
        except ApiError as error:
            code, status, message = error.args
            answer = {"error": {"code": code, "message": message, "status": status}}
            return web.json_response(answer, status=code)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.host not in self.hosts:
            raise ApiError(404, "NOT_FOUND", "Not Found")
        path = request.raw_path.partition("?")[0]
        known = {"/oauth2/v1/certs": tokens.certificates, "/oauth2/v3/certs": jwks}
        making = MAKE.fullmatch(path)
        if path in known and request.method in ("GET", "HEAD"):
            return web.json_response(known[path]())
        if request.method != "POST" or not (making or path in ("/token", "/oauth2/v4/token")):
            raise ApiError(404, "NOT_FOUND", "Not Found")
        body = await request.content.read(LARGEST + 1)
        while len(body) <= LARGEST and (more := await request.content.read(LARGEST)):
            body += more
        if len(body) > LARGEST:
            raise ApiError(413, "INVALID_ARGUMENT", "Request body is too large.")
        if making:
            email, kind = unquote(making[1]), making[2]
            return web.json_response(generated(kind, email, request.headers, body))
        here = f"http://{request.host}/token"
        return web.json_response(exchanged(body, here))


# ---- the exchange of a self-signed JWT


def exchanged(body: bytes, here: str) -> dict:
    form = fields(body)
    if form.get("grant_type") != JWT_BEARER:
        given = form.get("grant_type", "")[:100]
        raise Rejected("unsupported_grant_type", f"Invalid grant_type: {given}")
    account, claims = checked(form.get("assertion", ""), here)
    if "target_audience" in claims:
        audience = claims["target_audience"]
        return {"id_token": tokens.id_token(account, audience, azp=account["email"])}
    token = tokens.access_token(account)
    return {"access_token": token, "expires_in": tokens.LIFETIME, "token_type": "Bearer"}


def fields(body: bytes) -> dict[str, str]:
    """The fields of a form. RFC 6749 forbids to name one twice."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=100, errors="strict"
        )
    except ValueError:
        raise Rejected("invalid_request", "Bad Request") from None
    if len(dict(pairs)) < len(pairs):
        raise Rejected("invalid_request", "Bad Request")
    return dict(pairs)


def checked(assertion: str, here: str) -> tuple[dict, dict]:
    """The account that signed the assertion, and its claims; checked in Google's order."""
    try:
        header, claims, signed, signature = tokens.parts(assertion)
    except ValueError:
        raise Rejected("invalid_request", "Bad Request") from None
    if header.get("alg") != "RS256":
        raise Rejected("invalid_grant", "Invalid JWT Signature.")
    account = state.service_account(claims.get("iss"))
    if not account:
        raise Rejected("invalid_grant", "Invalid grant: account not found")
    keys = account.get("keys", {})
    if isinstance(header.get("kid"), str):
        keys = {kid: key for kid, key in keys.items() if kid == header["kid"]}
    if not any(tokens.is_signed_by(key, signed, signature) for key in keys.values()):
        raise Rejected("invalid_grant", "Invalid JWT Signature.")
    for claim, meaning in (("iat", "issued at"), ("exp", "expiration time")):
        if not tokens.is_time(claims.get(claim)):
            raise Rejected("invalid_grant", f"Invalid JWT: {claim} ({meaning}) is not set.")
    issued, expires = claims["iat"], claims["exp"]
    begins = claims.get("nbf", issued)
    reasonable = tokens.is_time(begins) and max(issued, begins) <= time.time() < expires
    if not reasonable or expires - issued > 3600:
        raise Rejected("invalid_grant", UNREASONABLE)
    wanted = claims.get("target_audience", claims.get("scope"))
    if not isinstance(wanted, str) or not wanted.strip() or len(wanted) > 2048:
        raise Rejected("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    if claims.get("aud") not in (*AUDIENCES, here):
        raise Rejected("invalid_grant", "Invalid JWT: Failed audience check.")
    if claims.get("sub", account["email"]) not in (account["email"], account["uniqueId"]):
        # To speak for somebody else takes domain-wide delegation, which is not here.
        raise Rejected("unauthorized_client", "Client is unauthorized to retrieve access tokens.")
    return account, claims


# ---- tokens of another account: impersonation


def generated(kind: str, email: str, headers, body: bytes) -> dict:
    try:
        credentials = headers.getall("Authorization", [])
        caller = tokens.caller(",".join(credentials))
    except ValueError:
        raise ApiError(401, "UNAUTHENTICATED", "Request had invalid credentials.") from None
    permission = roles.ID_TOKEN if kind == "Id" else roles.ACCESS_TOKEN
    target = state.service_account(email)
    if not target or not state.allowed(permission, caller, f"account.{target['email']}"):
        denied = f"Permission '{permission}' denied on resource (or it may not exist)."
        raise ApiError(403, "PERMISSION_DENIED", denied)
    try:
        wish = json.loads(body or b"{}")
        if not isinstance(wish, dict) or wish.get("delegates") not in (None, []):
            raise ValueError
        return id_token_for(target, wish) if kind == "Id" else access_token_for(target, wish)
    except (ValueError, RecursionError):
        message = "Request contains an invalid argument."
        raise ApiError(400, "INVALID_ARGUMENT", message) from None


def id_token_for(target: dict, wish: dict) -> dict:
    audience, with_email = wish.get("audience"), wish.get("includeEmail", False)
    if not isinstance(audience, str) or not audience.strip() or len(audience) > 2048:
        raise ValueError
    if not isinstance(with_email, bool):
        raise ValueError
    azp = target["email"] if wish.get("useEmailAzp") is True else None
    return {"token": tokens.id_token(target, audience, with_email, azp)}


def access_token_for(target: dict, wish: dict) -> dict:
    scopes = wish.get("scope")
    if not isinstance(scopes, list) or not scopes:
        raise ValueError
    if not all(isinstance(scope, str) and scope.strip() for scope in scopes):
        raise ValueError
    lifetime = re.fullmatch(r"([1-9]\d{0,4})s", str(wish.get("lifetime", "3600s")), re.A)
    if not lifetime or int(lifetime[1]) > tokens.LIFETIME:
        raise ValueError
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=int(lifetime[1]))
    token = tokens.access_token(target, int(lifetime[1]))
    return {"accessToken": token, "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}


def jwks() -> dict:
    [(kid, certificate)] = tokens.certificates().items()
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key().public_numbers()
    numbers = {
        name: tokens.encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        for name, number in (("n", key.n), ("e", key.e))
    }
    return {"keys": [{"kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", **numbers}]}
