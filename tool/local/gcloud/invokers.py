"""gcloud commands about the policy of a service: who may call it."""

import sys
from argparse import Namespace

from tool.local.gcloud.command import command
from tool.local.gcloud.policy import BINDING, add_member, remove_member, set_policy, shown_policy
from tool.local.gcloud.service import service_of


@command("run services get-iam-policy", "SERVICE", "--region")
def get_policy(args: Namespace) -> object:
    return shown_policy(service_of(args.SERVICE).name)


@command("run services set-iam-policy", "SERVICE", "FILE", "--region")
def set_service_policy(args: Namespace) -> object:
    policy = set_policy(service_of(args.SERVICE).name, args.FILE)
    print(f"Updated IAM policy for service [{args.SERVICE}].", file=sys.stderr)
    return policy


@command("run services add-iam-policy-binding", "SERVICE", "--region", *BINDING)
def add_binding(args: Namespace) -> object:
    return add_member(service_of(args.SERVICE).name, args)


@command("run services remove-iam-policy-binding", "SERVICE", "--region", *BINDING, "--all!")
def remove_binding(args: Namespace) -> object:
    return remove_member(service_of(args.SERVICE).name, args)
