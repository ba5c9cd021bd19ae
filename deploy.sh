#!/usr/bin/env bash
# Deploys the functions, and makes exactly those calls possible that the trust map names.
# "./deploy.sh help" tells how it is used. Bash 3.2 suffices.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The trust map. On every deploy, each service's policy is made exactly what its line says.
#   invoked by    you (whoever deploys), functions (a,b), or - for nobody
#   account may   use firestore (the profiles' database), or - for nothing
#   at once       requests in one instance. A password check takes 32 MiB and a core for a
#                 moment: 8 at once are 256 MiB beside the 150 MiB of the process. login mostly
#                 waits: 80 threads at 1 MiB stand beside its 100 MiB.
#
#   function       invoked by   account may   at once  memory  instances
TRUST_MAP='
    login          you          -             80       256Mi   5
    user-profiles  login        firestore     8        512Mi   5
    search         -            -             20       256Mi   1
'
MADE_BY=function-trust-map   # a label on what this script made: it touches nothing else
DATABASE=profiles
RUNTIME=python313
BUILD_ROLES='logging.logWriter artifactregistry.writer storage.objectViewer'
APIS='run cloudfunctions cloudbuild artifactregistry logging iam iamcredentials
      cloudresourcemanager firestore'

help() {
    cat <<'EOF'
usage: ./deploy.sh [VERB] [OPTION...]

  (no verb)   deploy the functions and their bindings, then verify; safe to run again
  verify      call every function as every caller, and print the trust map as measured
  env         print what a shell needs to try things out: eval "$(./deploy.sh env)"
  destroy     remove what was deployed
  help        print this

  --local         on this machine instead of Google Cloud, with the same verbs
  --project=ID    default: gcloud's own, or local-project with --local
  --region=NAME   default: gcloud's own (run/region), or us-east1
  --public        let everyone call login; without it, you alone
  --dry-run       print the commands that would change something, and run none
  --quiet         destroy without asking
  --delete-data   destroy the profiles' database, too
EOF
}

main() {
    VERB='' LOCAL='' PROJECT='' REGION='' ACCOUNTS='' STEP='' PUBLIC='' DRY_RUN='' QUIET='' DELETE_DATA=''
    local word
    for word; do
        case $word in
            --local) LOCAL=1 ;;
            --public) PUBLIC=1 ;;
            --dry-run) DRY_RUN=1 ;;
            --quiet) QUIET=1 ;;
            --delete-data) DELETE_DATA=1 ;;
            --project=?*) PROJECT=${word#*=} ;;
            --region=?*) REGION=${word#*=} ;;
            --help) VERB=help ;;
            -*) die "unknown option: $word (./deploy.sh help lists them)" ;;
            deploy | verify | env | destroy | help)
                [ -z "$VERB" ] || die "one verb at a time, not $VERB and $word"
                VERB=$word ;;
            *) die "unknown verb: $word (./deploy.sh help lists them)" ;;
        esac
    done
    VERB=${VERB:-deploy}
    if [ "$VERB" = help ]; then help; exit; fi

    FUNCTIONS=$(column 1)
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    export CLOUDSDK_CORE_DISABLE_PROMPTS=1 CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API=0
    if [ -n "$LOCAL" ]; then on_this_machine; else on_google_cloud; fi
    case $VERB in
        deploy) deploy ;;
        env) print_env ;;
        *) "$VERB" ;;
    esac
}

# ---- reading the trust map

column() { echo "$TRUST_MAP" | awk -v n="$1" 'NF { print $n }'; }
entry() { echo "$TRUST_MAP" | awk -v f="$1" -v n="$2" '$1 == f { print $n }'; }
variable() { echo "$1" | tr a-z- A-Z_; }

invokers_of() {   # the callers that the map lets in: you, anonymous, functions
    local who
    for who in $(entry "$1" 2 | tr , ' '); do
        case $who in
            -) ;;
            you) echo you; if [ -n "$PUBLIC" ]; then echo anonymous; fi ;;
            *) echo "$who" ;;
        esac
    done
}

members_of() {   # the same, as a policy names them
    local who
    for who in $(invokers_of "$1"); do
        case $who in
            you) echo "$YOU" ;;
            anonymous) echo allUsers ;;
            *) echo "serviceAccount:$(email_of "$who")" ;;
        esac
    done
}

email_of() {   # an account has its function's name, or that and -account: see create_account
    case " $ACCOUNTS " in
        *" $1-account@"*) echo "$1-account@$PROJECT.iam.gserviceaccount.com" ;;
        *) echo "$1@$PROJECT.iam.gserviceaccount.com" ;;
    esac
}

url_of() {   # known before anything is deployed
    if [ -n "$LOCAL" ]; then echo "$ADDRESSES" | awk -v f="$1" '$1 == f { print $2 }'
    else echo "https://$1-$NUMBER.$REGION.run.app"; fi
}

# ---- saying what happens, and running what changes something

die() { if [ -n "$STEP" ]; then echo; fi; echo "deploy.sh: $*" >&2; exit 1; }

step() {   # SENTENCE COMMAND...: one line a step, with its time
    local started=$SECONDS
    STEP=$1
    if [ -n "$DRY_RUN" ]; then echo "# $STEP"; else printf '  %s ...' "$STEP"; fi
    shift
    "$@"
    if [ -z "$DRY_RUN" ]; then printf ' %d s\n' $((SECONDS - started)); fi
    STEP=''
}

change() {   # COMMAND...: runs it, again where what it met passes by itself
    local pause=1 deadline=$((SECONDS + 120)) output reason
    if [ -n "$DRY_RUN" ]; then show "$@"; return; fi
    until output=$("$@" 2>&1 < /dev/null); do
        case $output in
            *"may not exist"* | *"ervice account"*"does not exist"*) reason='a new account to be known everywhere' ;;
            *409* | *ABORTED* | *etag*) reason='a change that somebody else is making' ;;
            *429* | *RESOURCE_EXHAUSTED*) reason='the quota of the API' ;;
            *SERVICE_DISABLED* | *"has not been used in project"*) reason='the API that was just enabled' ;;
            *) reason='' ;;
        esac
        if [ -z "$reason" ] || [ "$SECONDS" -ge $deadline ]; then
            printf '\n%s\n' "$output" >&2
            return 1
        fi
        printf ' (waiting for %s)' "$reason"
        sleep $pause
        pause=$((pause < 16 ? pause * 2 : 16))
    done
}

show() {   # a command as it can be typed; $VARIABLES stay variables
    local word line=''
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

# ---- the two targets

on_this_machine() {
    local python=.venv/bin/python project=${LOCAL_STATE:-.local}/project.json
    PROJECT=${PROJECT:-local-project} REGION=${REGION:-us-east1} PATIENCE=${PATIENCE:-0} ADDRESSES=''
    YOU=user:you@example.com
    if [ "$VERB" = deploy ] && [ -z "$DRY_RUN" ]; then
        step 'Preparing Python' local/venv
        # shellcheck disable=SC2086 # the names of the functions are words
        step 'Starting metadata servers and token endpoint' \
            $python -I local/__main__.py up "$PROJECT" "$REGION" $FUNCTIONS
    elif [ "$VERB" = destroy ] && [ ! -e "$project" ]; then
        echo 'There is no local project.'
        exit
    elif [ "$VERB" != deploy ] && [ ! -e "$project" ]; then
        die 'nothing is deployed on this machine yet: run ./deploy.sh --local'
    fi
    PATH=$PWD/local/bin:$PATH
    if [ -e "$project" ]; then ADDRESSES=$($python -I local/__main__.py addresses); fi
    STORE=sqlite:$(cd "${project%/*}" 2> /dev/null && pwd || echo .local)/profiles.db
}

on_google_cloud() {
    PATIENCE=420   # seconds: so long may it take until a new binding is known everywhere
    STORE=firestore:$DATABASE
    YOU=$(gcloud config get account 2> /dev/null) || true
    YOU=user:$YOU
    NUMBER=$(gcloud projects describe "$PROJECT" --format='value(projectNumber)')
}

# ---- deploy

deploy() {
    local name jobs='' job failed=''
    step 'Enabling the APIs' enable_apis
    step 'Creating the service accounts' create_accounts
    step 'Granting project roles' grant_roles
    for name in $FUNCTIONS; do   # side by side: each URL is known before
        deploy_function "$name" &
        jobs="$jobs $!"
        if [ -n "$DRY_RUN" ]; then wait; fi
    done
    for job in $jobs; do wait "$job" || failed=1; done
    if [ -n "$failed" ]; then die 'not everything is deployed; mend what is said above and run this again'; fi
    if [ -z "$DRY_RUN" ]; then
        verify
        what_next
    fi
}

enable_apis() {
    local enabled api missing=''
    enabled=$(reading gcloud services list --enabled --project="$PROJECT" --format='value(config.name)')
    for api in $APIS; do
        echo "$enabled" | grep -qx "$api.googleapis.com" || missing="$missing $api.googleapis.com"
    done
    # shellcheck disable=SC2086 # the names are words
    if [ -n "$missing" ]; then change gcloud services enable $missing --project="$PROJECT"; fi
}

create_accounts() {
    local name
    ACCOUNTS=$(reading gcloud iam service-accounts list --project="$PROJECT" --format='value(email)')
    ACCOUNTS=$(echo "$ACCOUNTS" | tr '\n' ' ')
    for name in $FUNCTIONS builder; do
        case " $ACCOUNTS " in *" $(email_of "$name") "*) continue ;; esac
        change gcloud iam service-accounts create "$name" --project="$PROJECT" \
            --display-name="$name" --description="$MADE_BY"
    done
}

grant_roles() {   # one after the other: changes to one policy, side by side, collide
    local role name
    POLICY=$(reading gcloud projects get-iam-policy "$PROJECT" --flatten='bindings[].members' \
        --format='value[separator="|"](bindings.members,bindings.role)')
    for role in $BUILD_ROLES; do grant builder "$role" None; done
    for name in $FUNCTIONS; do
        if [ -z "$LOCAL" ] && [ "$(entry "$name" 3)" = firestore ]; then
            grant "$name" datastore.user \
                "title=$DATABASE,expression=resource.name == 'projects/$PROJECT/databases/$DATABASE'"
        fi
    done
}

grant() {   # NAME ROLE CONDITION
    local member
    member=serviceAccount:$(email_of "$1")
    if echo "$POLICY" | grep -qxF "$member|roles/$2"; then return; fi
    change gcloud projects add-iam-policy-binding "$PROJECT" --member="$member" \
        --role="roles/$2" --condition="$3" --format=none
}

deploy_function() {
    local name=$1 other variables started=$SECONDS
    stage "$name"
    variables="GOOGLE_CLOUD_PROJECT=$PROJECT##THREADS=$(entry "$name" 4)"
    for other in $FUNCTIONS; do
        variables="$variables##$(variable "$other")_URL=$(url_of "$other")"
    done
    if [ "$(entry "$name" 3)" = firestore ]; then variables="$variables##PROFILES_STORE=$STORE"; fi
    change gcloud functions deploy "$name" --gen2 --project="$PROJECT" --region="$REGION" \
        --source=".build/$name" --runtime="$RUNTIME" --entry-point="${name//-/_}" \
        --trigger-http --no-allow-unauthenticated --service-account="$(email_of "$name")" \
        --build-service-account="projects/$PROJECT/serviceAccounts/$(email_of builder)" \
        --concurrency="$(entry "$name" 4)" --memory="$(entry "$name" 5)" --cpu=1 \
        --max-instances="$(entry "$name" 6)" --timeout=60s --set-env-vars="^##^$variables" \
        --update-labels="made-by=$MADE_BY" --quiet --format=none
    set_policy "$name"
    if [ -z "$DRY_RUN" ]; then echo "  Deployed $name. $((SECONDS - started)) s"; fi
}

stage() {   # the folder that is deployed: the function, a copy of shared/, one requirements.txt
    local from=functions/${1//-/_} to=.build/$1
    rm -rf "$to"
    mkdir -p "$to"
    cp -R "$from/." "$to"
    cp -R shared "$to/shared"
    find "$to" -name __pycache__ -prune -exec rm -rf {} +
    cat requirements.txt > "$to/requirements.txt"
    if [ -e "$from/requirements.txt" ]; then cat "$from/requirements.txt" >> "$to/requirements.txt"; fi
    echo .gcloudignore > "$to/.gcloudignore"   # without one, gcloud makes its own choice
}

set_policy() {   # makes a service's policy exactly what the map says
    local members file=.build/$1.policy.json
    members=$(members_of "$1" | sort)
    if [ "$(policy_of "$1")" = "$(echo "$members" | sed 's/..*/&|roles\/run.invoker/')" ]; then return; fi
    if [ -z "$members" ]; then
        echo '{"bindings": []}'
    else
        members=$(echo "$members" | sed 's/.*/"&"/' | paste -s -d , -)
        echo '{"bindings": [{"role": "roles/run.invoker", "members": ['"$members"']}]}'
    fi > "$file"
    change gcloud run services set-iam-policy "$1" "$file" --project="$PROJECT" \
        --region="$REGION" --quiet --format=none
}

policy_of() {   # member|role|condition, a line each, as the service's policy has them now
    reading gcloud run services get-iam-policy "$1" --project="$PROJECT" --region="$REGION" \
        --flatten='bindings[].members' \
        --format='value[separator="|"](bindings.members,bindings.role)' | sed '/^|*$/d' | sort
}

reading() { if [ -z "$DRY_RUN" ]; then "$@"; fi; }

# ---- verify

verify() {
    local caller name wrong=''
    for caller in anonymous you $FUNCTIONS; do
        for name in $FUNCTIONS; do measure "$caller" "$name" & done
    done
    wait
    echo
    echo 'The trust map as measured: who (left) may call whom (top)'
    # shellcheck disable=SC2086 # the names are words
    printf '  %-16s' '' $FUNCTIONS
    echo
    for caller in anonymous you $FUNCTIONS; do
        printf '  %-16s' "$caller"
        for name in $FUNCTIONS; do
            printf '  %-16s' "$(cat "$WORK/$caller.$name")"
            case $(cat "$WORK/$caller.$name") in *WRONG*) wrong="$wrong $caller->$name" ;; esac
        done
        echo
    done
    if [ -n "$wrong" ]; then die "not what the map says:$wrong"; fi
    echo 'Every call was answered as the map says.'
}

measure() {   # CALLER NAME: calls, and notes the status and whether it is the one expected
    local token expected=403 status deadline=$((SECONDS + PATIENCE))
    if invokers_of "$2" | grep -qxE "$1|anonymous"; then expected=200; fi
    if ! token=$(token_of "$1" "$2" 2> /dev/null); then echo '? unknown'; return; fi > "$WORK/$1.$2"
    # A new binding takes time to spread: wait for the calls that should succeed, for no other.
    until status=$(call "$token" -X OPTIONS "$(url_of "$2")/") &&
        [ "$status" = $expected ] || [ $expected = 403 ] || [ $SECONDS -ge $deadline ]; do
        sleep 1
    done
    if [ "$status" = $expected ]; then echo "$status ok"; else echo "$status WRONG"; fi > "$WORK/$1.$2"
}

token_of() {   # CALLER NAME: an ID token of the caller for the function; anonymous has none
    case $1 in
        anonymous) ;;
        you) gcloud auth print-identity-token ;;
        *) gcloud auth print-identity-token --impersonate-service-account="$(email_of "$1")" \
            --audiences="$(url_of "$2")" --include-email ;;
    esac
}

call() {   # TOKEN CURL-ARGUMENT...: the status of the answer
    local token=$1
    shift
    # The token goes in by standard input: what stands in an argument, "ps" shows to everyone.
    if [ -n "$token" ]; then printf 'header = "Authorization: Bearer %s"\n' "$token"; fi |
        curl --disable --config - --silent --max-time 30 --noproxy 127.0.0.1 \
            --output /dev/null --write-out '%{http_code}' "$@" || true
}

what_next() {
    cat <<EOF

Now try it. This gives your shell the addresses${LOCAL:+, and the local gcloud}:

  eval "\$(./deploy.sh env${LOCAL:+ --local})"

Sign up, as you (once more without the first -H: 403, nobody is let in unnamed):

  curl -H "Authorization: Bearer \$(gcloud auth print-identity-token)" \\
    -H 'Content-Type: application/json' "\$LOGIN_URL/signup" \\
    -d '{"username": "ada", "password": "correct horse", "display_name": "Ada"}'

Let login ask search, and see it refused; then open that door, and ask again:

  curl -H "Authorization: Bearer \$(gcloud auth print-identity-token)" "\$LOGIN_URL/search?q=password"

  gcloud run services add-iam-policy-binding search --region=\$REGION --role=roles/run.invoker \\
    --member=serviceAccount:$(email_of login)

The next ./deploy.sh${LOCAL:+ --local} closes it. ./deploy.sh destroy${LOCAL:+ --local} removes everything.
EOF
}

# ---- env and destroy

print_env() {
    local name
    for name in $FUNCTIONS; do echo "export $(variable "$name")_URL='$(url_of "$name")'"; done
    echo "export PROJECT_ID='$PROJECT' REGION='$REGION'"
    if [ -n "$LOCAL" ]; then
        echo "export PATH='$PWD/local/bin':\"\$PATH\""
        if [ -n "${LOCAL_STATE:-}" ]; then echo "export LOCAL_STATE='$LOCAL_STATE'"; fi
        for name in $FUNCTIONS; do
            echo "export $(variable "$name")_METADATA_HOST='$(echo "$ADDRESSES" | awk -v f="$name" '$1 == f { print $3 }')'"
        done
    fi
}

destroy() {
    if [ -n "$LOCAL" ]; then .venv/bin/python -I local/__main__.py down; fi
}

main "$@"
