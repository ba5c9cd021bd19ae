"""Why the platform would answer a call with 401, 403 or 404, or let it in.

The rules are Cloud Run's, in its order: service, path, ingress, everyone, token, policy. What
cannot be known from here is "unknown", never guessed.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from tool.deploy.explain_known import Grant, Known, Reply, Verdict
from tool.deploy.explain_token import Refused, check, shown, token_in
from tool.deploy.gcloud import Answer

# Google reserves some other paths that end in z, too, without listing them.
RESERVED = re.compile(r"/healthz|/eventlog|/_ah/.*", re.S)
HIDDEN = ("group", "domain", "principalset")  # their members are not visible here
NOT_LOOKED_AT = (
    "Not looked at, and each of these may refuse the call: Identity-Aware Proxy (IAP), deny"
    " policies, VPC Service Controls"
)


def verdict(url: str, sent: str, known: Known, now: float) -> Verdict:
    """How the platform answers a call of `url` with the token that was `sent`."""
    found = verdict_of(url, sent, known, now)
    if found.answer is Reply.LET_IN and known.signer == "Google":
        return found._replace(why=f"{found.why}. {NOT_LOOKED_AT}")
    return found


def verdict_of(url: str, sent: str, known: Known, now: float) -> Verdict:
    name, host, path = known.name, urlsplit(url).netloc, unquote(urlsplit(url).path)
    if not name:
        listing = f"gcloud run services list --project={known.project} shows what there is"
        if known.at_platform:
            return Verdict(Reply.NOT_FOUND, f"this project has no service at {host}: {listing}")
        why = f"at {host} is a proxy or load balancer, or nothing; ask with the service's own URL"
        return Verdict(Reply.UNKNOWN, f"{why}: {listing}")
    if RESERVED.fullmatch(path):
        return Verdict(Reply.NOT_FOUND, f"the platform keeps {shown(path)} to itself: no function sees it")
    if known.ingress != "all":
        why = f"{name} takes calls from inside only (ingress: {known.ingress}), whatever the token"
        after = verdict_of(url, sent, known._replace(ingress="all"), now)
        then = (after.command, *after.then) if after.command else ()
        return Verdict(Reply.NOT_FOUND, why, on_service("update", known, "--ingress=all"), then)
    if known.open:
        return Verdict(Reply.LET_IN, f"the invoker check of {name} is switched off, for everyone")
    grant, doubts = grant_for(None, known)
    if grant:
        return Verdict(Reply.LET_IN, f"everyone may call {name}, by {told(grant)}")
    found = verdict_on(sent, known, now)
    if doubts and found.answer in (Reply.UNAUTHORIZED, Reply.FORBIDDEN):
        status = found.answer.value
        why = f"{'; '.join(doubts)}. Unless everyone may call, it is {status}: {found.why}"
        return found._replace(answer=Reply.UNKNOWN, why=why)
    return found


def verdict_on(sent: str, known: Known, now: float) -> Verdict:
    """How the platform answers a token, if not everyone is let in."""
    name = known.name
    claims: dict[str, Any] = {}
    token = token_in(sent)
    if not token:
        why = f"no token came, and {name} does not let in everyone"
        return with_new_token(Verdict(Reply.FORBIDDEN, why), "", known)
    try:
        check(token, claims, known, now)
        principal = principal_of(claims["sub"], claims.get("email"), known)
    except Refused as refused:
        found = Verdict(refused.answer, f"the token {refused.why}")
        if refused.answer is not Reply.UNAUTHORIZED:
            return found
        # For a proven token, it is known whether a better one would be let in.
        if claims.get("email") and not any(grant_for(principal_named(claims), known)):
            why = f"One for {name} would be answered 403: {principal_named(claims)} may not call it"
            found = found._replace(why=f"{found.why}. {why}")
        by_number = (known.accounts or {}).get(str(claims.get("sub")), "")
        email = claims.get("email") or by_number or refused.account
        return with_new_token(found, shown(email), known)
    grant, doubts = grant_for(principal, known)
    if grant:
        why = f"{principal} may call {name}, by {told(grant)}. On Google Cloud it takes about two"
        why += " minutes, sometimes seven or more, until a changed policy works everywhere"
        return Verdict(Reply.LET_IN, why)
    if doubts:
        why = f"nothing that can be read lets {principal} call {name}, but {'; '.join(doubts)}"
        return Verdict(Reply.UNKNOWN, why)
    why = f"{principal} may not call {name}: neither its policy nor one above it gives this"
    why += " principal the permission run.routes.invoke"
    return Verdict(Reply.FORBIDDEN, why, to_let_in(principal, known))


def with_new_token(found: Verdict, email: str, known: Known) -> Verdict:
    """Adds the command for a better token, and for the binding that would still be missing."""
    command = new_token(email, known)
    is_account = email.endswith(".gserviceaccount.com")
    principal = principal_named({"email": email}) if is_account else known.you
    is_refused = principal and not any(grant_for(principal, known))
    then = (to_let_in(principal, known),) if is_refused else ()
    return found._replace(command=command, then=then)


# ---- the policies


def principal_of(number: str, email: Any, known: Known) -> str:
    """The principal as a policy names it. A token always has the number (sub), often the address."""
    if known.accounts and number in known.accounts:
        return f"serviceAccount:{known.accounts[number]}"
    if not isinstance(email, str) or not email:
        why = "names its principal only by number, and none with that uniqueId is shown by: gcloud"
        raise Refused(Reply.UNKNOWN, f"{why} iam service-accounts list --project={known.project}")
    if known.accounts is not None and email.lower().endswith(known.ours.lower()):
        # Whether Google refuses the last tokens of a deleted account at once is not documented.
        raise Refused(Reply.FORBIDDEN, f"is older than {shown(email)}, which was deleted, or made anew")
    return principal_named({"email": email})


def principal_named(claims: dict[str, Any]) -> str:
    """The principal by the address in its token."""
    email = shown(claims["email"])
    kind = "serviceAccount" if email.lower().endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{email}"


def grant_for(principal: str | None, known: Known) -> tuple[Grant | None, list[str]]:
    """The grant that lets the principal in (None: everyone); if there is none, the doubts about that."""
    names = {"allusers", *(("allauthenticatedusers", principal.lower()) if principal else ())}
    # IAM reportedly accepts allUsers in no policy above a service; this is not verified.
    doubts = [
        f"the policy of {unread.where} cannot be read"
        for unread in known.unread
        if principal or unread.is_of_service
    ]
    for grant in known.grants:
        named = grant.member.lower() in names
        if named and grant.holds is Answer.YES and not grant.condition:
            return grant, []
        if grant.holds is Answer.NO:
            continue
        if named and grant.condition:
            doubts.append(f"{told(grant)} has the condition {shown(grant.condition)}")
        elif named:
            doubts.append(f"the role in {told(grant)} cannot be read")
        elif principal and grant.member.partition(":")[0].lower() in HIDDEN:
            doubts.append(f"who is in {grant.member} is not known here, see {told(grant)}")
    return None, list(dict.fromkeys(doubts))


def told(grant: Grant) -> str:
    return f"the binding of {grant.role} in the policy of {grant.where}"


# ---- what is printed


def on_service(verb: str, known: Known, *options: str) -> tuple[str, ...]:
    where = (f"--project={known.project}", f"--region={known.region}")
    return ("gcloud", "run", "services", verb, known.name, *where, *options)


def to_let_in(principal: str, known: Known) -> tuple[str, ...]:
    conditional = any(g.condition for g in known.grants if g.where == f"service {known.name}")
    without = ("--condition=None",) if conditional else ()  # gcloud wants to know it then
    binding = (f"--member={principal}", "--role=roles/run.invoker", *without)
    return on_service("add-iam-policy-binding", known, *binding)


def new_token(email: str, known: Known) -> tuple[str, ...]:
    """The command that prints a token for the service, as this service account, or as you."""
    command = ("gcloud", "auth", "print-identity-token")
    if not email.endswith(".gserviceaccount.com"):
        return command
    options = (f"--impersonate-service-account={email}", f"--audiences={known.urls[0]}")
    return (*command, *options, "--include-email")
