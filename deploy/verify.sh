# shellcheck shell=bash
# "deploy.sh verify": calls every function as every caller, and says who was let in.

# The roles that hold run.routes.invoke (of all predefined ones, 2026-08; custom roles are looked into).
INVOKING='owner editor run.admin run.developer run.editor run.sourceDeveloper run.invoker
    run.servicesInvoker cloudfunctions.admin cloudfunctions.developer cloudfunctions.editor
    firebase.admin firebase.developAdmin iam.devOps iam.dataScientist iam.mlEngineer
    run.serviceAgent serverless.serviceAgent cloudfunctions.serviceAgent aiplatform.serviceAgent
    ces.serviceAgent dialogflow.serviceAgent firebaseapphosting.serviceAgent
    firebasedataconnect.serviceAgent integrations.serviceAgent spanner.serviceAgent
    monitoring.notificationServiceAgent visionai.serviceAgent'

verify() {
    local name caller cell width wrong=''
    must_be_deployed
    INHERITED=$(inherited)
    gcloud auth print-identity-token > "$WORK/token" 2> /dev/null < /dev/null || rm "$WORK/token"
    for caller in anonymous you $FUNCTIONS; do measure "$caller" & done
    for name in $FUNCTIONS; do
        { policy_of "$name" || echo '? cannot be read'; } > "$WORK/policy.$name" &
        { if switched_off "$name"; then echo on; elif [ $? = 2 ]; then echo unknown; fi; } > "$WORK/off.$name" &
    done
    wait

    # shellcheck disable=SC2086 # the names are words
    width=$(printf '%s\n' '             ' $FUNCTIONS | awk '{ if (length > w) w = length } END { print w + 3 }')
    printf '\nThe trust map as measured: may the caller on the left call the function above?\n  %*s' "$width" ''
    for name in $FUNCTIONS; do printf '%-*s' "$width" "$name"; done
    for caller in anonymous you $FUNCTIONS; do
        printf '\n  %-*s' "$width" "$caller"
        for name in $FUNCTIONS; do
            cell=$(cat "$WORK/$caller.$name")
            printf '%-*s' "$width" "$cell"
            case $cell in *WRONG*) wrong="$wrong $caller->$name" ;; esac
        done
    done
    printf '\n\nWho may, by the policies:\n'
    for name in $FUNCTIONS; do
        cell=$(cut -d '|' -f 1 "$WORK/policy.$name" | paste -s -d ' ' -)
        printf '  %-*s%s\n' "$width" "$name" "${cell:-nobody}"
        if [ "$(members_of "$name" | paste -s -d ' ' -)" != "$cell" ]; then wrong="$wrong policy-of-$name"; fi
        if [ -s "$WORK/off.$name" ]; then
            echo "                  the invoker check is switched off, for everybody: $(cat "$WORK/off.$name")"
            wrong="$wrong check-of-$name"
        fi
    done
    if [ -n "$INHERITED" ]; then
        echo 'And every one of them, by a role on the project or above it:'
        echo "$INHERITED" | awk -F '|' '{ printf "  %s  %s (%s %s)\n", $1, $2, $3, $4 }'
    fi
    explain
    if [ -n "$wrong" ]; then die "not what the map says:$wrong"; fi
    echo 'Every call that could be made was answered as the map says.'
}

measure() {   # CALLER: calls every function; notes the status, and whether it is the one expected
    local name token known='' expected cell
    if token=$(token_of "$1" 2> /dev/null < /dev/null); then known=1; fi
    for name in $FUNCTIONS; do
        expected=403 cell='? unknown'
        if invokers_of "$name" | grep -qxE "$1|anonymous"; then expected=200; fi
        if [ -n "$known" ]; then
            if comes_true "$name" "$1" "$expected" options "$token" "$name" "$expected"; then cell="$STATUS ok"
            elif [ "$1$STATUS" = you200 ] && you_inherit; then
                cell='200 inherited'   # owners and the like may call everything, whatever the map says
            else cell="$STATUS WRONG"; fi
        fi
        # login's own edges through login itself, too: they need no permission to act as login.
        case ${1#"$PREFIX"}:${name#"$PREFIX"} in login:user-profiles | login:search)
            if ! comes_true "$name" "$1" "$expected" through_login "$name" "$expected"; then cell="$STATUS WRONG*"
            elif [ -z "$token" ]; then cell="$STATUS ok*"; fi ;;
        esac
        echo "$cell" > "$WORK/$1.$name"
    done
}

you_inherit() {   # or may do, as a member of a group, or where it cannot be read
    echo "$INHERITED" | awk -F '|' -v you="$YOU" '$1 == you || /^(group|domain|\?)/ { found = 1 } END { exit !found }'
}

comes_true() {   # NAME CALLER EXPECTED CHECK...: a new binding takes its time, a refusal must be there at once
    local name=$1 caller=$2 expected=$3
    shift 3
    if [ "$expected" = 403 ]; then "$@"; else wait_for "$name to let $caller in" "$@"; fi
}

options() {   # TOKEN NAME EXPECTED: OPTIONS asks for nothing, and is let in or refused like any call
    call "$1" -X OPTIONS "$(url_of "$2")/"
    [ "$STATUS" = "$3" ]
}

through_login() {   # NAME EXPECTED: makes login call NAME, in a way that leaves no data behind
    local token name=nobody-$RANDOM-$RANDOM-$RANDOM
    token=$(token_of you 2> /dev/null < /dev/null)
    case ${1#"$PREFIX"}:$2 in
        user-profiles:*)   # only user-profiles can know that there is no such user
            call "$token" "$(url_of "${PREFIX}login")/" -H 'Content-Type: application/json' \
                -d '{"username": "'"$name"'", "password": "no such user"}'
            [ "$STATUS:$2" = 401:200 ] || [ "$STATUS:$2" = 502:403 ] ;;
        search:*)
            call "$token" "$(url_of "${PREFIX}login")/search"
            [ "$STATUS" = "$2" ] ;;
    esac && case $KIND in application/json*) ;; *) false ;; esac   # or it was not login that answered
}

call() {   # TOKEN CURL-ARGUMENT...: sets STATUS and KIND (content type) of the answer
    local token=$1 answer
    shift
    # The token goes in by standard input: what stands in an argument, ps shows to everyone.
    answer=$(if [ -n "$token" ]; then printf 'header = "Authorization: Bearer %s"\n' "$token"; fi |
        curl --disable --config - --silent --max-time 30 --noproxy 127.0.0.1 \
            --output /dev/null --write-out '%{http_code} %{content_type}' "$@") || true
    STATUS=${answer%% *} KIND=${answer#* }
}

token_of() {   # CALLER: an ID token of the caller; anonymous has none
    # Its audience is gcloud's own, which every service accepts (of service accounts this is
    # inferred: gcloud functions call does so). What is measured here are the bindings; that
    # audiences are right shows in the calls that login makes itself.
    case $1 in
        anonymous) ;;
        you) cat "$WORK/token" ;;
        *) gcloud auth print-identity-token --impersonate-service-account="$(email_of "$1")" --include-email ;;
    esac
}

inherited() {   # who may call every function by a role on the project or above: member|role|type|id
    local fields='policy.bindings.members,policy.bindings.role,type,id' lines member role more permissions
    lines=$(gcloud projects get-ancestors-iam-policy "$PROJECT" --flatten='policy.bindings[].members' \
        --format="value[separator='|']($fields)" 2> /dev/null < /dev/null) ||
        lines=$(attempt gcloud projects get-iam-policy "$PROJECT" --flatten='bindings[].members' \
            --format='value[separator="|"](bindings.members,bindings.role)' |
            sed "s/\$/|project|$PROJECT; what is above it is not visible to you/") ||
        lines='? cannot be read|any role|project|'"$PROJECT"
    echo "$lines" | while IFS='|' read -r member role more; do
        case $role in
            'any role') echo "$member|$role|$more" ;;
            projects/* | organizations/*)   # a role of somebody's own making
                permissions=$(attempt gcloud iam roles describe "$role" --format='value(includedPermissions)' \
                    2> /dev/null) || permissions='run.routes.invoke?'
                case $permissions in
                    *invoke\?*) echo "$member|$role, which cannot be looked into|$more" ;;
                    *run.routes.invoke*) echo "$member|$role|$more" ;;
                esac ;;
            *) if echo "$INVOKING" | grep -qwF -- "${role#roles/}"; then echo "$member|$role|$more"; fi ;;
        esac
    done
}

explain() {   # what the marks in the table mean
    local caller
    if grep -q 'ok\*' "$WORK/$PREFIX"login.*; then
        echo '* asked through login itself: 401 is what user-profiles says to a log-in of nobody'
    fi
    if grep -q unknown "$WORK/you".*; then echo "? no ID token for you: see gcloud auth print-identity-token"; fi
    for caller in $FUNCTIONS; do
        if grep -q unknown "$WORK/$caller".*; then
            echo "? you may not act as $caller. This lets you: gcloud iam service-accounts add-iam-policy-binding $(email_of "$caller") --member=$YOU --role=roles/iam.serviceAccountTokenCreator --project=$PROJECT"
        fi
    done
}
