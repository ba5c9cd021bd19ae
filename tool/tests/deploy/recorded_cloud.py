"""A Google Cloud that only takes notes, for deploy.sh with the toy app."""

import os
import pathlib
import sys

from tool.testing import ROOT, run

TOY = pathlib.Path(__file__).with_name("toy")
NAMES = ("front", "back", "closed")
SECRET = "the token of nobody"

# Stands where gcloud is looked for: notes each command, and answers so that the script goes on.
# RECORD/NAME holds what "run services list" says of a service; answers/ what a test wants said.
RECORDER = r"""#!/usr/bin/env bash
printf -v line '%s\037' "$@"; echo "$line" >> "$RECORD/commands"   # at one stroke: several run at once
for answer in "$RECORD"/answers/*; do
  [ -e "$answer/words" ] || continue
  case "$*" in *"$(< "$answer/words")"*) cat "$answer/stderr" >&2; cat "$answer/stdout"; exit "$(cat "$answer/status")" ;; esac
done
option() { local word; for word; do case $word in "$wanted"*) echo "${word#*=}" ;; esac; done; }
case "$*" in
  --version) echo 'Google Cloud SDK 528.0.0' ;;
  'auth list'* | 'config get account') echo dev@example.com ;;
  'billing projects describe'*) echo True ;;
  'projects describe'*) echo 123456789012 ;;
  'services list'*) cat "$RECORD/enabled" 2> /dev/null ;;
  'services enable'*) printf '%s\n' "$@" >> "$RECORD/enabled" ;;
  'firestore databases create'*) touch "$RECORD/database" ;;
  'firestore databases delete'*) rm "$RECORD/database" ;;
  'firestore databases describe'*)
    if [ -e "$RECORD/database" ]; then echo FIRESTORE_NATIVE; else echo 'ERROR: NOT_FOUND: it does not exist' >&2; exit 1; fi ;;
  'run deploy'*)
    revision=$3-$(wanted=--revision-suffix=; option "$@")
    echo "$3|us-east1|$(wanted=--labels=made-by=; option "$@" | sed 's/.*=//')|$revision|$revision|$revision|['Ready', 'True']|[True, 100]|$(wanted=--service-account=; option "$@")||123456789012|$(wanted=--ingress=; option "$@")" > "$RECORD/services/$3" ;;
  'run services describe'*spec.template*) cut -d '|' -f 4-7 "$RECORD/services/$4" ;;
  'run services list'*value\[*) cat "$RECORD"/services/* 2> /dev/null || true ;;
  'run services list'*) ls "$RECORD/services" ;;
  'run services delete'*) rm "$RECORD/services/$4" ;;
  'run services set-iam-policy'*) cp "$5" "$RECORD/$4.policy" ;;
  'run services get-iam-policy'*)
    grep -o '"[a-zA-Z][a-zA-Z]*:[^"]*"\|"allUsers"' "$RECORD/$4.policy" 2> /dev/null |
      sed 's/"//g; s:$:|roles/run.invoker|:' ;;
  'iam service-accounts create'*)
    echo "$4@p-1.iam.gserviceaccount.com|$(wanted=--description=; option "$@")" >> "$RECORD/accounts" ;;
  'iam service-accounts list'*) cat "$RECORD/accounts" 2> /dev/null || true ;;
  'projects add-iam-policy-binding'*)
    title=$(wanted=--condition=title=; option "$@" | sed 's/^title=//; s/,.*//')
    echo "$(wanted=--member=; option "$@")|$(wanted=--role=; option "$@")|project|p-1|$title" >> "$RECORD/granted" ;;
  'projects get-ancestors-iam-policy'*) cat "$RECORD/granted" 2> /dev/null || true ;;
  'auth print-identity-token'*) echo "the token of nobody" ;;
esac
exit 0
"""
READING = ("list", "describe", "get-iam-policy", "get-ancestors-iam-policy", "print-identity-token", "get", "read", "log")


class Cloud:
    """deploy.sh with the toy app, on a Google Cloud that only takes notes."""

    def __init__(self, folder, app):
        self.folder, self.app = folder, app
        (folder / "services").mkdir()
        for name, text in (("gcloud", RECORDER), ("curl", "#!/bin/sh\nsed -n 's/^url.*/000 /p'\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.env = {**os.environ, "RECORD": str(folder), "PATIENCE": "0", "PATIENCE_FOR_BUILDER": "0"}
        python = os.path.dirname(os.path.realpath(sys.executable))  # python3 on PATH may be a slow script
        self.env["PATH"] = f"{folder}:{python}:{os.environ['PATH']}"

    def deploy_sh(self, *words):
        options = (f"--app={self.app}", "--project=p-1", "--region=us-east1")
        return run(str(ROOT / "deploy.sh"), *options, *words, env=self.env)

    def answer(self, words, stdout="", stderr="", status=0):
        """What gcloud says to every command that holds these words, from now on."""
        folder = self.folder / "answers" / str(len(list((self.folder / "answers").glob("*"))))
        folder.mkdir(parents=True)
        for name, text in (("words", words), ("stdout", stdout), ("stderr", stderr), ("status", str(status))):
            (folder / name).write_text(text)

    def commands(self):
        file = self.folder / "commands"
        lines = file.read_text().splitlines() if file.exists() else ()
        return [["gcloud", *line.split("\037")[:-1]] for line in lines]

    def changes(self):
        return [c for c in self.commands() if not set(READING) & set(c) and "--version" not in c]

    def forget(self):
        (self.folder / "commands").unlink()
