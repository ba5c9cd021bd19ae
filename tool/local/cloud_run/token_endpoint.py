"""The token endpoint: does what oauth2.googleapis.com, iamcredentials and the certificates' URLs do."""

import datetime
import json
import re
import time
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from multidict import MultiMapping

from tool.local import accounts, policies, roles, tokens
from tool.local.accounts import Account
from tool.local.records import Json, Record
from tool.local.tokens import Parts

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCES = ("https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token")
UNREASONABLE = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    " Check your iat and exp values in the JWT claim."
)
LARGEST = 65536  # bytes of a body
MAKE = re.compile(r"/v1/projects/-/serviceAccounts/([^/]+):generate(Id|Access)Token")


class Rejected(Exception):
    """An error and its description, as in OAuth."""


class ApiError(Exception):
    """A status code, its name and a message, as in Google's APIs."""


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


Answer = dict[str, object]


class Grant(Record):
    """What a self-signed JWT asks for: an ID token for an audience, or an access token."""

    account: Account
    audience: str | None


def exchanged(body: bytes, here: str) -> Answer:
    form = fields(body)
    if form.get("grant_type") != JWT_BEARER:
        given = form.get("grant_type", "")[:100]
        raise Rejected("unsupported_grant_type", f"Invalid grant_type: {given}")
    grant = granted(form.get("assertion", ""), here)
    account = grant.account
    if grant.audience:
        return {"id_token": tokens.id_token(account, grant.audience, azp=account.email)}
    token = tokens.access_token(account)
    return {"access_token": token, "expires_in": tokens.LIFETIME, "token_type": "Bearer"}


def fields(body: bytes) -> dict[str, str]:
    """The fields of a form. RFC 6749 forbids naming one twice."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=100, errors="strict"
        )
    except ValueError:
        raise Rejected("invalid_request", "Bad Request") from None
    if len(dict(pairs)) < len(pairs):
        raise Rejected("invalid_request", "Bad Request")
    return dict(pairs)


def granted(assertion: str, here: str) -> Grant:
    """What the assertion entitles its signer to; checked in Google's order."""
    try:
        token = tokens.parts(assertion)
    except ValueError:
        raise Rejected("invalid_request", "Bad Request") from None
    account, claims = signer(token), token.claims
    check_times(claims)
    wanted = claims.get("target_audience", claims.get("scope"))
    if not isinstance(wanted, str) or not wanted.strip() or len(wanted) > 2048:
        raise Rejected("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    if claims.get("aud") not in (*AUDIENCES, here):
        raise Rejected("invalid_grant", "Invalid JWT: Failed audience check.")
    if claims.get("sub", account.email) not in (account.email, account.unique_id):
        # Speaking for somebody else needs domain-wide delegation, which does not exist here.
        raise Rejected("unauthorized_client", "Client is unauthorized to retrieve access tokens.")
    return Grant(account, wanted if "target_audience" in claims else None)


def signer(token: Parts) -> Account:
    """The service account that the token names as its issuer, and that has signed it."""
    if token.header.get("alg") != "RS256":
        raise Rejected("invalid_grant", "Invalid JWT Signature.")
    account = accounts.service_account(token.claims.get("iss"))
    if not account:
        raise Rejected("invalid_grant", "Invalid grant: account not found")
    keys, kid = account.keys, token.header.get("kid")
    if isinstance(kid, str):
        keys = {kid: keys[kid]} if kid in keys else {}
    if not any(tokens.is_signed_by(key, token) for key in keys.values()):
        raise Rejected("invalid_grant", "Invalid JWT Signature.")
    return account


def check_times(claims: dict[str, Json]) -> None:
    for claim, meaning in (("iat", "issued at"), ("exp", "expiration time")):
        if not tokens.is_time(claims.get(claim)):
            raise Rejected("invalid_grant", f"Invalid JWT: {claim} ({meaning}) is not set.")
    issued, expires = claims["iat"], claims["exp"]
    begins = claims.get("nbf", issued)
    reasonable = tokens.is_time(begins) and max(issued, begins) <= time.time() < expires
    if not reasonable or expires - issued > 3600:
        raise Rejected("invalid_grant", UNREASONABLE)


# ---- tokens of another account: impersonation


def generated(kind: str, email: str, headers: MultiMapping[str], body: bytes) -> Answer:
    try:
        credentials = headers.getall("Authorization", [])
        caller = tokens.caller(",".join(credentials))
    except ValueError:
        raise ApiError(401, "UNAUTHENTICATED", "Request had invalid credentials.") from None
    permission = roles.ID_TOKEN if kind == "Id" else roles.ACCESS_TOKEN
    target = accounts.service_account(email)
    if not target or not policies.allowed(permission, caller, f"account.{target.email}"):
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


def id_token_for(target: Account, wish: dict[str, Json]) -> Answer:
    audience, with_email = wish.get("audience"), wish.get("includeEmail", False)
    if not isinstance(audience, str) or not audience.strip() or len(audience) > 2048:
        raise ValueError
    if not isinstance(with_email, bool):
        raise ValueError
    azp = target.email if wish.get("useEmailAzp") is True else None
    return {"token": tokens.id_token(target, audience, with_email, azp)}


def access_token_for(target: Account, wish: dict[str, Json]) -> Answer:
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


def jwks() -> Answer:
    [(kid, certificate)] = tokens.certificates().items()
    key = tokens.public_key(certificate).public_numbers()
    numbers = {
        name: tokens.encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        for name, number in (("n", key.n), ("e", key.e))
    }
    return {"keys": [{"kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", **numbers}]}
