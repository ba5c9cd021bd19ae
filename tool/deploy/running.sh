# shellcheck shell=bash
# How deploy.sh runs a command: it says what it does, waits for what passes by itself, can be
# interrupted at any moment, and with --dry-run prints the command in place of running it.

die() { if [ -n "${STEP:-}" ]; then echo; fi; echo "deploy.sh: $*" >&2; exit 1; }

among() {   # WORD LIST...: whether the word stands in the list; spaces and line ends part its words
    local word=$1
    shift
    case " ${*//$'\n'/ } " in *" $word "*) return 0 ;; esac
    return 1
}

step() {   # SENTENCE COMMAND...: one line a step, with its time
    local started=$SECONDS STEP=$1
    shift
    if [ -n "$DRY_RUN" ]; then echo "# $STEP"; "$@"; return; fi
    printf '  %s ...' "$STEP"
    "$@" || {   # it has said why
        echo "deploy.sh: $STEP: not finished. What was done so far stays. Correct the error above, and run this again: it goes on from there" >&2
        exit 1
    }
    printf ' %d s\n' $((SECONDS - started))
}

# ---- interruption: what was started is ended first, so that nothing changes after deploy.sh has ended

heed_signals() {   # in the script, and in each part of it that runs beside the others
    trap 'interrupted 130' INT
    trap 'interrupted 143' TERM
}

interrupted() {
    local job
    trap '' INT TERM
    for job in $(jobs -p); do kill -TERM -- "-$job" 2> /dev/null || kill -TERM "$job" 2> /dev/null || true; done
    wait
    if [ -z "${BESIDE:-}" ]; then
        printf '\ndeploy.sh: interrupted. What was done so far stays. Run the same command again: it goes on from there.\n' >&3
    fi
    exit "$1"
}

beside() {   # COMMAND...: runs it beside the rest; all_of waits for it
    ( BESIDE=1; heed_signals; "$@" ) &
    JOBS="$JOBS $!"
}

all_of() {   # waits for what runs beside; fails if one of them failed
    local job failed=''
    for job in $JOBS; do wait "$job" || failed=1; done
    JOBS=''
    if [ -n "$failed" ] && [ -e "$WORK/missing" ]; then sort -u "$WORK/missing" >&2; fi
    rm -f "$WORK/missing"
    [ -z "$failed" ]
}

pause() { sleep "$1" & wait $! || true; }

in_a_group() {   # COMMAND...: in a process group of its own, for gcloud is a shell with a child
    local status=0
    set -m
    "$@" < /dev/null &
    set +m
    wait $! || status=$?
    return $status
}

# ---- trying again

LAST_ERROR=/dev/null   # what the last command that failed said

attempt() {   # COMMAND...: its output. What passes by itself is waited for, within a limit of time.
    local wait=1 began='' errors output reason said=''
    errors=$(mktemp "$WORK/XXXXXX") output=$errors.output
    until in_a_group "$@" > "$output" 2> "$errors"; do
        LAST_ERROR=$errors
        # The answer may have been lost on its way, and the change made.
        if [ -n "${DONE:-}" ] && $DONE > /dev/null 2>&1; then return 0; fi
        began=${began:-$SECONDS}   # of the waiting: a build takes minutes itself
        reason=$(verdict "$errors")
        if [ "${reason%%|*}" -le $((SECONDS - began)) ]; then
            explain_refusal "$errors"
            return 1
        fi
        if [ "$reason" != "$said" ] && [ -z "${SILENT:-}" ]; then say_waiting "${reason#*|}"; fi
        said=$reason
        pause $wait
        wait=$((wait < 16 ? wait * 2 : 16))
    done
    cat "$output"
}

verdict() {   # FILE: what to do about an error: SECONDS to wait at most, and what for (0|: it is final)
    local text line limit sentence pattern
    text=$(error_in "$1" | tr '\n' ' ' | tr '[:upper:]' '[:lower:]')
    while IFS='|' read -r limit sentence pattern; do
        # shellcheck disable=SC2254 # the pattern is one
        case $text in *$pattern*)
            case $limit in
                age) limit=$(($(youngest_account) < 180 ? 999999 : 0)); if names_a_stranger "$text"; then limit=0; fi ;;
                api) limit=${ENABLED:+300} limit=${limit:-0} ;;
            esac
            echo "$limit|$sentence"
            return ;;
        esac
    done < <(sed -e '/^#/d' -e '/^$/d' -e 's/ *| */|/g' "$TOOL/tool/deploy/errors.txt")
    echo '0|'
}

names_a_stranger() {   # ERROR: whether it is about accounts, and none of them is one of ours
    local name found=''
    case $1 in *@*) ;; *) return 1 ;; esac
    for name in $FUNCTIONS "$BUILDER"; do
        case $1 in *"$name$SA"*) found=1 ;; esac
    done
    [ -z "$found" ]
}

error_in() {   # FILE: what gcloud said from its first ERROR on, for a warning is none
    sed -n '/^ERROR/,$p' "$1" | sed '/^WARNING/d'
    if ! grep '^ERROR' "$1" > /dev/null; then sed '/^WARNING/d' "$1"; fi
}

youngest_account() {   # the age in seconds of the youngest of our accounts
    local now made age=999999
    now=$(date +%s)
    for made in $MADE_AT; do if [ $((now - made)) -lt $age ]; then age=$((now - made)); fi; done
    echo $age
}

explain_refusal() {   # FILE: the error, and where a permission is missing the role that holds it
    local text role
    text=$(error_in "$1")
    { if [ -n "${STEP:-}" ]; then echo; fi; echo "$text" | sed "1s/^/${ABOUT:+  $ABOUT}/"; } >&2
    role=$(missing_role "$text")
    if [ -z "$role" ]; then return; fi
    if [ -n "${BESIDE:-}" ]; then echo "$role" >> "$WORK/missing"; else echo "$role" >&2; fi   # all_of says it once
}

missing_role() {   # ERROR
    local text permission role prefix command commands roles=''
    text=$(echo "$1" | tr '[:upper:]' '[:lower:]')
    case $text in *'service agent'*) return ;; esac   # one of Google's own, and not you
    permission=$(echo "$1" | sed -n "s/.*[Pp]ermission[: ]*'\{0,1\}\([a-zA-Z]*\.[a-zA-Z.]*[a-zA-Z]\)'\{0,1\}.*/\1/p" | head -1)
    command=$(echo "$1" | sed -n 's/^ERROR: (gcloud\.\([a-z.-]*\)).*/\1/p' | head -1 | tr . ' ')
    if [ -z "$permission" ]; then
        case $text in
            *'has not been used in project'* | *service_disabled*) return ;;
            *permission_denied* | *'not have permission'* | *'access denied'*) ;;
            *) return ;;
        esac
    fi
    while IFS='|' read -r role prefix commands; do
        if [ -z "$permission" ]; then   # then the command tells
            case $command in "$commands"*) among "$role" "$roles" || roles="$roles${roles:+ or }$role" ;; esac
            continue
        fi
        case $permission in $prefix*)
            echo "  You lack the permission $permission in project $PROJECT. The role $role holds it; an owner of the project can grant it."
            return ;;
        esac
    done < <(sed -e '/^#/d' -e '/^$/d' -e 's/ *| */|/g' "$TOOL/tool/deploy/roles.txt")
    if [ -n "$roles" ]; then
        echo "  You lack a permission in project $PROJECT that gcloud $command needs. $roles holds it; an owner of the project can grant it."
    fi
}

say_waiting() {   # SENTENCE: below the line of a step; what runs beside others says for which function
    if [ -n "${STEP:-}" ]; then printf '\n    waiting for %s ...' "$1" >&3; else echo "  ${ABOUT:-}waiting for $1" >&3; fi
}

wait_for() {   # SENTENCE COMMAND...: until the command succeeds, or for $PATIENCE seconds
    local sentence=$1 wait=1 began=$SECONDS
    shift
    until "$@"; do
        if [ $((SECONDS - began)) -ge "$PATIENCE" ]; then return 1; fi
        if [ $wait = 1 ]; then say_waiting "$sentence"; fi
        pause $wait
        wait=$((wait < 16 ? wait * 2 : 16))
    done
}

change() {   # COMMAND...: runs what changes something, or with --dry-run only prints it
    local word line=''
    # In a trap, a return without a number returns what came before the trap.
    if [ -z "$DRY_RUN" ]; then attempt "$@" > /dev/null; return $?; fi
    for word; do line="$line $(quoted "$word")"; done
    echo "${line# }"
}

quoted() {   # WORD: as a shell reads it
    case $1 in
        *\$PROJECT_NUMBER* | *\$YOU*)   # of a --dry-run: what is not known stays a variable
            printf '"%s"' "$(printf '%s' "$1" | sed 's/["\`]/\\&/g')" ;;
        *) printf %q "$1" ;;
    esac
}
