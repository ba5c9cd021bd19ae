# shellcheck shell=bash
# How deploy.sh runs a command: says what it does, waits out what passes, or with --dry-run prints it.

die() { if [ -n "${STEP:-}" ]; then echo; fi; echo "deploy.sh: $*" >&2; exit 1; }

step() {   # SENTENCE COMMAND...: one line a step, with its time
    local started=$SECONDS STEP=$1
    shift
    if [ -n "$DRY_RUN" ]; then echo "# $STEP"; "$@"; return; fi
    printf '  %s ...' "$STEP"
    "$@" || exit   # it has said why
    printf ' %d s\n' $((SECONDS - started))
}

attempt() {   # COMMAND...: its output. What passes by itself is waited out, within limits.
    local pause=1 waited=0 output errors reason limit said=''
    errors=$(mktemp "$WORK/XXXXXX")
    until output=$("$@" 2> "$errors" < /dev/null); do
        limit=${PATIENCE_HERE:-120}
        case " $(cat "$errors") " in
            *actAs* | *"ervice account"*"does not exist"*) reason='the new account to be known everywhere' limit=120 ;;
            *SERVICE_DISABLED* | *"has not been used in project"*) reason='the API that was just enabled' ;;
            *[!0-9]409[!0-9]* | *ABORTED* | *conflict* | *"already exists"* | *"unable to queue"*)
                reason='another change to end' ;;
            *[!0-9]429[!0-9]* | *RESOURCE_EXHAUSTED* | *"uota exceeded"*) reason='the quota of an API' ;;
            *) limit=0 ;;
        esac
        # The thing may be done although the answer was lost on its way.
        if [ -n "${DONE:-}" ] && $DONE > /dev/null 2>&1; then return; fi
        if [ "$waited" -ge "$limit" ]; then
            { echo; cat "$errors"; } >&2
            return 1
        fi
        if [ "$reason" != "$said" ]; then printf '\n    waiting for %s ...' "$reason" >&3; fi
        said=$reason
        sleep $pause
        waited=$((waited + pause)) pause=$((pause < 16 ? pause * 2 : 16))
    done
    if [ -n "$output" ]; then echo "$output"; fi
}

wait_for() {   # SENTENCE COMMAND...: until the command succeeds, or for $PATIENCE seconds
    local sentence=$1 pause=1 waited=0
    shift
    until "$@"; do
        if [ $waited -ge "$PATIENCE" ]; then return 1; fi
        if [ $waited = 0 ]; then printf '\n    waiting for %s ...' "$sentence" >&3; fi
        sleep $pause
        waited=$((waited + pause)) pause=$((pause < 16 ? pause * 2 : 16))
    done
}

change() {   # COMMAND...: runs what changes something, or with --dry-run only prints it
    local word line=''
    if [ -z "$DRY_RUN" ]; then attempt "$@" > /dev/null; return; fi
    for word; do
        case $word in
            *[!A-Za-z0-9_./:=,@%+-]*)
                word=${word//\"/\\\"}
                line="$line \"$word\"" ;;
            *) line="$line $word" ;;
        esac
    done
    echo "${line# }"
}
