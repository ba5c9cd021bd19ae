# shellcheck shell=bash
# Where deploy.sh deploys to: Google Cloud or this machine, and what it finds there.

start() {
    exec 3>&2   # for what is said while a command's own errors are being collected
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    trap 'echo; kill $(jobs -p) 2> /dev/null; exit 130' INT TERM
    export CLOUDSDK_CORE_DISABLE_PROMPTS=1   # no question, and no API enabled by the way
    case $VERB in verify | env) DRY_RUN='' ;; esac   # they change nothing
    NUMBER='' ACCOUNTS=' ' ADDRESSES='' FOUND='' SERVICES='' ENABLED='' GRANTED=''
    if [ -n "$LOCAL" ]; then on_this_machine; else on_google_cloud; fi
}

on_this_machine() {
    local state=${LOCAL_STATE:-$PWD/.local}
    PROJECT=${PROJECT:-local-project} REGION=${REGION:-$DEFAULT_REGION} PATIENCE=${PATIENCE:-0}
    YOU=user:you@example.com STORE=sqlite:$state/profiles.db
    if [ "$VERB" = deploy ] && [ -z "$DRY_RUN" ]; then
        local/venv
        # shellcheck disable=SC2086 # the names of the functions are words
        step 'Starting metadata servers and token endpoint' local_project up "$PROJECT" "$REGION" $FUNCTIONS
    elif [ "$VERB" = destroy ] && [ ! -e "$state/project.json" ]; then
        if [ -d "$state" ]; then end_local_project; else echo 'There is no local project.'; fi
        exit
    elif [ "$VERB" != deploy ] && [ ! -e "$state/project.json" ]; then
        die 'nothing is deployed on this machine yet: run ./deploy.sh --local'
    fi
    PATH=$PWD/local/bin:$PATH   # from here on, gcloud is the stand-in
    if [ -e "$state/project.json" ]; then ADDRESSES=$(local_project addresses); fi
}

local_project() { .venv/bin/python -I local/__main__.py "$@"; }

end_local_project() {
    if [ -z "$DRY_RUN" ]; then step 'Ending the local project' local_project down; fi
}

address() { echo "$ADDRESSES" | awk -v f="$1" -v n="$2" '$1 == f { print $n }'; }

local_env() {
    local name
    for name in $FUNCTIONS; do echo "export $(variable "$name")_METADATA_HOST='$(address "$name" 3)'"; done
    echo "export PATH='$PWD/local/bin':\"\$PATH\""
    if [ -n "${LOCAL_STATE:-}" ]; then echo "export LOCAL_STATE='$LOCAL_STATE'"; fi
}

on_google_cloud() {
    local version ours=$PWD/local/bin:
    PATH=${PATH//"$ours"/}   # where a shell still has the stand-in first
    STORE=firestore:$DATABASE
    PATIENCE=${PATIENCE:-420}   # seconds: so long may it take until a binding is known everywhere
    if [ -z "$PROJECT$DRY_RUN" ] || [ -z "$DRY_RUN" ]; then
        command -v gcloud > /dev/null ||
            die 'gcloud is not installed: see https://cloud.google.com/sdk/docs/install, or use --local'
        version=$(gcloud --version 2> /dev/null | sed -n 's/^Google Cloud SDK \([0-9]*\).*/\1/p') || true
        [ "${version:-0}" -ge 492 ] || die "gcloud ${version:-?} is too old, 492 is needed: run gcloud components update"
        YOU=$(gcloud auth list --filter=status:ACTIVE --format='value(account)' 2> /dev/null)
        [ -n "$YOU" ] || die 'nobody is logged in: run gcloud auth login'
        case $YOU in *.gserviceaccount.com) YOU=serviceAccount:$YOU ;; *) YOU=user:$YOU ;; esac
        REGION=${REGION:-$(gcloud config get run/region 2> /dev/null)}
    fi
    PROJECT=${PROJECT:-$(gcloud config get project 2> /dev/null)} || true
    [ -n "$PROJECT" ] || die 'no project: give --project=ID, or run gcloud config set project ID'
    REGION=${REGION:-$DEFAULT_REGION}
    if [ "$VERB$DRY_RUN" = deploy1 ]; then   # nobody is asked: what is not known stays a variable
        NUMBER=\$PROJECT_NUMBER YOU=\$YOU
        cat <<EOF
PROJECT_NUMBER=\$(gcloud projects describe $PROJECT --format="value(projectNumber)")
YOU=\$(gcloud config get account)
case \$YOU in *.gserviceaccount.com) YOU=serviceAccount:\$YOU ;; *) YOU=user:\$YOU ;; esac
EOF
    fi
}

# ---- what is there already, and whose it is

look() {   # notes the enabled APIs, functions, services and accounts of the project
    if [ -n "$DRY_RUN" ]; then return; fi
    ENABLED=$(attempt gcloud services list --enabled --project="$PROJECT" --format='value(config.name)') ||
        die "project $PROJECT cannot be used: see above"
    if enabled cloudfunctions; then
        FOUND=$(attempt gcloud functions list --regions="$REGION" --project="$PROJECT" \
            --format='value[separator="|"](name.basename(),labels.made-by,labels.source,state)')
    fi
    if enabled run; then
        SERVICES=$(attempt gcloud run services list --region="$REGION" --project="$PROJECT" \
            --format='value(metadata.name)')
    fi
    if enabled iam; then
        ACCOUNTS=$(attempt gcloud iam service-accounts list --project="$PROJECT" \
            --format='value[separator="|"](email,description)')
        STRANGERS=$(echo "$ACCOUNTS" | grep -v "|$MADE_BY$" || true)
        ACCOUNTS=" $(echo "$ACCOUNTS" | sed -n "s/|$MADE_BY\$//p" | tr '\n' ' ')"
    fi
}

enabled() { echo "$ENABLED" | grep -qx "$1.googleapis.com"; }

found() { echo "$FOUND" | awk -F '|' -v f="$1" -v n="$2" '$1 == f { print $n }'; }   # FUNCTION COLUMN

found_ours() { echo "$FOUND" | awk -F '|' -v m="$MADE_BY" '$2 == m { print $1 }'; }

preflight() {
    local name billing
    if [ -n "$DRY_RUN" ]; then return; fi
    # Empty means no. Whoever may not see the billing account is not stopped here.
    if [ -z "$LOCAL" ] && billing=$(gcloud billing projects describe "$PROJECT" \
        --format='value(billingEnabled)' 2> /dev/null < /dev/null) && [ "$billing" != True ]; then
        die "project $PROJECT has no billing account: see https://console.cloud.google.com/billing/linkedaccount?project=$PROJECT"
    fi
    look
    for name in $FUNCTIONS "$BUILDER"; do
        if { [ -n "$(found "$name" 1)" ] && [ "$(found "$name" 2)" != "$MADE_BY" ]; } ||
            { [ -z "$(found "$name" 1)" ] && echo "$SERVICES" | grep -qx "$name"; }; then
            die "project $PROJECT has a function or service $name that this script did not make: delete it, or take another project or region"
        fi
        if echo "${STRANGERS:-}" | grep -qE "^$name(-account)?@"; then
            die "project $PROJECT has a service account $name that this script did not make: delete it, or take another project"
        fi
    done
    for name in $(found_ours); do
        if ! echo "$FUNCTIONS" | grep -qx "$name"; then
            echo "$name is still deployed, but no longer in the trust map. This deletes it: gcloud functions delete $name --region=$REGION --project=$PROJECT" >&2
        fi
    done
}

must_be_deployed() {
    local name
    if [ "$VERB" = deploy ]; then return; fi
    look
    for name in $FUNCTIONS; do
        [ -n "$(found "$name" 1)" ] || die "$name is not deployed to project $PROJECT, region $REGION: run ./deploy.sh"
    done
    set_number
}

set_number() {   # the project's number is a part of every URL
    if [ -n "$LOCAL$DRY_RUN" ]; then return; fi
    NUMBER=$(attempt gcloud projects describe "$PROJECT" --format='value(projectNumber)')
}

url_of() {   # known before anything is deployed
    if [ -n "$LOCAL" ]; then address "$1" 2; else echo "https://$1-$NUMBER.$REGION.run.app"; fi
}

email_of() {   # an account is called like its function, or that and -account: see create_accounts
    case $ACCOUNTS in
        *" $1-account@"*) echo "$1-account@$PROJECT.iam.gserviceaccount.com" ;;
        *) echo "$1@$PROJECT.iam.gserviceaccount.com" ;;
    esac
}

see_granted() {   # the project's policy: member|role|title of the condition, a line each
    if [ -n "$DRY_RUN" ]; then return; fi
    GRANTED=$(attempt gcloud projects get-iam-policy "$PROJECT" --flatten='bindings[].members' \
        --format='value[separator="|"](bindings.members,bindings.role,bindings.condition.title)')
}

fingerprint() {   # NAME ARGUMENT...: changes when the staged folder does, or a setting
    local file
    {
        find ".build/$1" -type f | LC_ALL=C sort | while read -r file; do echo "$file"; cat "$file"; done
        echo "${*//"$NUMBER"/NUMBER}"   # --dry-run does not know it
    } | { sha256sum 2> /dev/null || shasum -a 256; } | cut -c 1-40
}

# What cannot be read is neither there nor gone: each of these is true only if it was seen.

is_active() {   # NAME FINGERPRINT
    local DONE=''
    [ "$(attempt gcloud functions describe "$1" --region="$REGION" --project="$PROJECT" \
        --format='value[separator="|"](labels.source,state)' 2> /dev/null)" = "$2|ACTIVE" ]
}

is_no_service() {
    local there
    there=$(attempt gcloud run services list --region="$REGION" --project="$PROJECT" \
        --format='value(metadata.name)') || return
    ! echo "$there" | grep -qx "$1"
}

function_is_gone() {
    local there DONE=''
    there=$(attempt gcloud functions list --regions="$REGION" --project="$PROJECT" \
        --format='value(name.basename())') || return
    ! echo "$there" | grep -qx "$1"
}

account_is_ours() {   # EMAIL
    [ "$(gcloud iam service-accounts describe "$1" --project="$PROJECT" \
        --format='value(description)' 2> /dev/null < /dev/null)" = "$MADE_BY" ]
}

account_is_gone() {   # EMAIL
    local there DONE=''
    there=$(attempt gcloud iam service-accounts list --project="$PROJECT" --format='value(email)') || return
    ! echo "$there" | grep -qx "$1"
}

database_is_there() {
    local DONE=''
    [ -z "$DRY_RUN" ] && [ "$(attempt gcloud firestore databases describe --database="$DATABASE" \
        --project="$PROJECT" --format='value(type)' 2> /dev/null)" = FIRESTORE_NATIVE ]
}

deployed_elsewhere() {   # the other regions of the project that have functions of ours
    local there
    if [ -n "$DRY_RUN" ] || ! enabled cloudfunctions; then return; fi
    there=$(attempt gcloud functions list --project="$PROJECT" \
        --format='value[separator="|"](labels.made-by,name.segment(3))') || return
    echo "$there" | awk -F '|' -v m="$MADE_BY" -v r="$REGION" '$1 == m && $2 != r { print $2 }' | sort -u
}

policy_of() {   # a service's policy as it is: member|role|title of the condition, a line each
    attempt gcloud run services get-iam-policy "$1" --project="$PROJECT" --region="$REGION" \
        --flatten='bindings[].members' \
        --format='value[separator="|"](bindings.members,bindings.role,bindings.condition.title)' |
        sed '/^|*$/d' | sort
}

policy_is() {   # NAME MEMBERS: whether these may invoke the service, and nothing else is in its policy
    local policy
    policy=$(policy_of "$1") || return 2
    [ "$policy" = "$(echo "$2" | sed '/./s/$/|roles\/run.invoker|/')" ]
}

switched_off() {   # whether the annotation is set that makes every policy of the service meaningless
    local off
    off=$(attempt gcloud run services describe "$1" --project="$PROJECT" --region="$REGION" \
        --format='value(metadata.annotations."run.googleapis.com/invoker-iam-disabled")') || return 2
    [ "$off" = true ]
}
