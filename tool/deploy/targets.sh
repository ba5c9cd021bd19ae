# shellcheck shell=bash
# Where deploy.sh deploys to: this machine or Google Cloud.

start() {
    exec 3>&2   # for what is said while a command's own errors are being collected
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    heed_signals
    export CLOUDSDK_CORE_DISABLE_PROMPTS=1   # no question, and no API enabled by the way
    case $VERB in verify | who | env | explain) DRY_RUN='' ;; esac   # they change nothing
    STAGED=$WORK   # each run's own: two may run at the same time
    if [ -n "$DRY_RUN" ]; then STAGED=.build; fi
    NUMBER='' FOUND='' ACCOUNTS='' STRANGERS='' MADE_AT='' ENABLED='' GRANTED='' ABOVE='' HIDDEN='' GRANTS_CHANGED='' LENT='' JOBS='' ADDRESSES='' SA=-sa@
    if [ -n "$LOCAL" ]; then on_this_machine; else on_google_cloud; fi
    case $PROJECT in   # SA, behind a function's name, makes the address of its service account
        *:*) SA=-sa@${PROJECT#*:}.${PROJECT%%:*}.iam.gserviceaccount.com ;;   # of a domain: example.com:p
        *) SA=-sa@$PROJECT.iam.gserviceaccount.com ;;
    esac
    # A checksum in the database's name: nobody else's has it by accident, so what has it is ours.
    DATABASE=${PREFIX}data-$(printf %s "$MADE_BY $PROJECT" | cksum | cut -d ' ' -f 1)
    STORE=firestore:$DATABASE
    if [ -n "$LOCAL" ]; then STORE=sqlite:$LOCAL_STATE/${PREFIX}data.db; fi
}

on_this_machine() {
    PROJECT=${PROJECT:-local-project} OWN_STATE=''
    if [ -n "${LOCAL_STATE_OF:-}" ]; then   # "env" has set LOCAL_STATE, maybe for another clone
        case ${LOCAL_STATE:-} in "$LOCAL_STATE_OF/.local"*) unset LOCAL_STATE ;; esac
    fi
    if [ -z "${LOCAL_STATE:-}" ]; then
        OWN_STATE=1 LOCAL_STATE=$PWD/.local
        if [ "$PROJECT" != local-project ]; then LOCAL_STATE=$LOCAL_STATE-$PROJECT; fi   # each project has its own
    fi
    export LOCAL_STATE
    export LOCAL_SECRETS=${LOCAL_SECRETS:-$PWD/.secrets} LOCAL_GROUPS=${LOCAL_GROUPS:-$PWD/.groups}
    REGION=${REGION:-$DEFAULT_REGION} YOU=user:you@example.com
    if [ "$VERB" = deploy ] && [ -z "$DRY_RUN" ]; then
        "$TOOL/tool/python/venv"
        # shellcheck disable=SC2086 # the names of the functions are words
        step 'Starting front end, metadata servers and token endpoint' local_project up "$PROJECT" "$REGION" $FUNCTIONS
        if [ -n "$PROPAGATION" ]; then echo "$PROPAGATION" > "$LOCAL_STATE/propagation.json"; fi
    elif [ "$VERB" = destroy ] && [ ! -e "$LOCAL_STATE/project.json" ]; then
        if [ -d "$LOCAL_STATE" ]; then end_local_project; else echo 'There is no local project.'; fi
        exit
    elif [ "$VERB" != deploy ] && [ ! -e "$LOCAL_STATE/project.json" ]; then
        die "nothing is deployed on this machine yet. Run $(again)"
    fi
    if [ -e "$LOCAL_STATE/propagation.json" ]; then PROPAGATION=$(< "$LOCAL_STATE/propagation.json"); fi
    PATIENCE=${PATIENCE:-$((PROPAGATION ? PROPAGATION + 10 : 0))}
    PATH=$TOOL/tool/local/bin:$PATH   # from here on, gcloud is the stand-in
    if [ -e "$LOCAL_STATE/addresses" ]; then ADDRESSES=$(< "$LOCAL_STATE/addresses"); fi
}

local_project() { python "$TOOL/tool/local/__main__.py" "$@"; }

python() { if [ -n "$LOCAL" ]; then "$TOOL/.venv/bin/python" -I "$@"; else python3 "$@"; fi; }

end_local_project() {
    if [ -z "$DRY_RUN" ]; then step 'Ending the local project' local_project down; fi
}

set_address() {   # FUNCTION: sets URL and METADATA_HOST
    local name
    while read -r name URL METADATA_HOST; do [ "$name" != "$1" ] || return 0; done <<< "$ADDRESSES"
}

on_google_cloud() {
    local configured
    leave_stand_in   # where a shell still has it first
    PATIENCE=${PATIENCE:-420}   # seconds: it may take so long until a changed binding works everywhere
    if [ -z "$DRY_RUN" ]; then
        command -v gcloud > /dev/null ||
            die 'gcloud is not installed. See https://cloud.google.com/sdk/docs/install, or use --local'
        command -v python3 > /dev/null ||
            die 'python3 is not installed, and is needed to see who could call a function. 3.9 is enough'
        who_you_are
        if [ -z "$PROJECT" ] || [ -z "$REGION" ]; then
            configured=$(gcloud config list --format='value[separator="|"](core.project,run.region)' 2> /dev/null) ||
                die 'gcloud does not work here. To see why, run gcloud config list'
            PROJECT=${PROJECT:-${configured%%|*}} REGION=${REGION:-${configured#*|}}
        fi
    fi
    [ -n "$PROJECT" ] || die 'no project: give --project=ID, or run gcloud config set project ID'
    REGION=${REGION:-$DEFAULT_REGION}
    case $PROJECT in
        *[!0-9]*) ;;
        *) PROJECT=$(attempt gcloud projects describe "$PROJECT" --format='value(projectId)') || die "project $PROJECT cannot be seen. See the error above" ;;
    esac
    if [ "$VERB$DRY_RUN" = deploy1 ]; then   # nobody is asked: what is not known stays a variable
        NUMBER=\$PROJECT_NUMBER YOU=\$YOU
        cat <<END
PROJECT_NUMBER=\$(gcloud projects describe $PROJECT --format="value(projectNumber)")
YOU=\$(gcloud config get account)
case \$YOU in *.gserviceaccount.com) YOU=serviceAccount:\$YOU ;; *://*) ;; *) YOU=user:\$YOU ;; esac
END
    fi
}

leave_stand_in() {   # takes the stand-in of this or another clone out of PATH
    local folder path='' IFS=:
    set -f
    for folder in $PATH; do
        if [ -e "$folder/../gcloud/deploy.py" ]; then continue; fi
        if [ -e "$folder/../gcloud_deploy.py" ]; then continue; fi   # of an older version
        path=$path:$folder
    done
    set +f
    if [ "$PATH" != "${path#:}" ] && [ -z "$PROJECT" ]; then
        die 'this shell is set up for the local project. Add --local; or, for Google Cloud, open a new shell or give --project=ID'
    fi
    PATH=${path#:}
}

who_you_are() {   # whoever is logged in, as a policy names them
    local override=${CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE:-}
    YOU=$(gcloud auth list --filter=status:ACTIVE --format='value(account)' 2> /dev/null) ||
        die 'gcloud does not work here. To see why, run gcloud auth list'
    if [ -z "$YOU" ] && [ -e "$override" ]; then   # as google-github-actions/auth leaves it
        YOU=$(sed -n -e 's/.*"client_email": *"\([^"]*\)".*/\1/p' \
            -e 's/.*serviceAccounts\/\([^:"]*\):generateAccessToken.*/\1/p' "$override" | head -1)
        if [ -z "$YOU" ] && among you "$(echo "$MAP" | cut -d '|' -f 2 | tr , ' ')"; then
            die 'who you are is not in the credentials. Write members, such as serviceAccount:..., in place of "you" into trust-map'
        fi
    fi
    [ -n "$YOU$override" ] || die 'nobody is logged in. Run gcloud auth login'
    case $YOU in
        *.gserviceaccount.com) YOU=serviceAccount:$YOU ;;
        *://* | '') ;;   # a federated identity is a member as it is
        *) YOU=user:$YOU ;;
    esac
}

set_number() {   # the project's number is a part of every URL
    if [ -n "$LOCAL$DRY_RUN$NUMBER" ]; then return; fi
    NUMBER=$(found_number)
    if [ -z "$NUMBER" ]; then NUMBER=$(attempt gcloud projects describe "$PROJECT" --format='value(projectNumber)'); fi
}

set_url() {   # FUNCTION: sets URL, which is known before anything is deployed
    if [ -n "$LOCAL" ]; then set_address "$1"; else URL=https://$1-$NUMBER.$REGION.run.app; fi
}
