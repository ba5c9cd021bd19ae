"""What kind of principal a member of a policy is: everyone, a set, a stranger, an agent of Google's."""

from __future__ import annotations

import enum
import re
from collections.abc import Set

EVERYONE = ("allUsers", "allAuthenticatedUsers")
SETS = ("group:", "domain:", "principalSet:")  # their members are not visible here
# Anybody can make an account service-9 in a project of their own. Google's own agents have the
# number of the project that they work for, and one of these domains.
DOMAINS_OF_GOOGLE = re.compile(
    r"(gcp-sa-[a-z0-9-]+|bigquery-encryption|cloud-filer|cloud-memcache-sa|cloud-redis|cloud-tpu"
    r"|cloudcomposer-accounts|compute-system|container-analysis|container-engine-robot"
    r"|containerregistry|dataflow-service-producer-prod|dataproc-accounts|dlp-api"
    r"|endpoints-portal|firebase-rules|gcf-admin-robot|gcp-gae-service|gs-project-accounts"
    r"|security-center-api|serverless-robot-prod|service-consumer-management"
    r"|service-networking|sourcerepo-service-accounts)\.iam\.gserviceaccount\.com"
    r"|(gae-api-prod|cloud-ml|genomics-api)\.google\.com\.iam\.gserviceaccount\.com"
)


class Distance(enum.IntEnum):
    """How far a principal is from the project; the farthest comes first."""

    EVERYONE = 0
    STRANGER = 1
    SET = 2
    PERSON = 3
    ACCOUNT = 4


def is_set(member: str) -> bool:
    return member.startswith(SETS)


def email_of(member: str) -> str:
    """The address of a service account; "" for any other member."""
    kind, _, email = member.partition(":")
    return email if kind == "serviceAccount" else ""


def domain_of(member: str) -> str:
    return member.rpartition("@")[2].lower() if "@" in member else ""


def distance(member: str, accounts: Set[str], you: str) -> Distance:
    """`accounts`: the project's own. `you`: a person from another domain is a stranger to you."""
    if member in EVERYONE:
        return Distance.EVERYONE
    if email := email_of(member):
        return Distance.ACCOUNT if email in accounts else Distance.STRANGER
    if is_set(member):
        return Distance.SET
    elsewhere = you.startswith("user:") and domain_of(member) != domain_of(you)
    if elsewhere or not member.startswith("user:"):
        return Distance.STRANGER
    return Distance.PERSON


def is_agent_of_google(member: str, number: str) -> bool:
    """`number`: this project's. If it is not known, nobody counts as an agent."""
    name, _, domain = email_of(member).lower().partition("@")
    if not number or not domain:
        return False
    if name == f"service-{number}":
        return bool(DOMAINS_OF_GOOGLE.fullmatch(domain))
    return (name, domain) == (number, "cloudservices.gserviceaccount.com")
