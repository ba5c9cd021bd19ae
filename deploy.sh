#!/usr/bin/env bash
# Deploys the functions, and makes exactly those calls possible that the trust map names.
# "./deploy.sh help" tells how it is used. Bash 3.2 suffices.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. deploy/running.sh   # step, change, attempt: how a command is run, or only printed
. deploy/targets.sh   # Google Cloud or this machine, and what is there already
. deploy/verify.sh    # the trust map as measured

# The trust map. On every deploy, each service's policy is made exactly what its line says.
#   invoked by    you (whoever deploys), functions (a,b), anonymous (everyone), or - for nobody
#   account may   use firestore (the profiles' database), or - for nothing
#   at once       requests in one instance, and threads. A password check takes 32 MiB and a
#                 core for a moment: user-profiles makes 4 at a time, 128 MiB beside the 150 MiB
#                 of the process. login mostly waits: 80 threads at 1 MiB beside its 100 MiB.
#
#   function       invoked by   account may   at once  memory  instances
TRUST_MAP='
    login          you          -             80       256Mi   5
    user-profiles  login        firestore     8        512Mi   5
    search         -            -             20       256Mi   1
'
PREFIX=''   # put before every name, as in PREFIX=team-, so that two copies can live in one project
DEFAULT_REGION=us-east1
RUNTIME=python313
DATABASE=${PREFIX}profiles
BUILDER=${PREFIX}builder              # the account that builds
MADE_BY=${PREFIX}function-trust-map   # the label of its functions and accounts: others are not touched
BUILD_ROLES='logging.logWriter artifactregistry.writer storage.objectViewer'
APIS='run cloudfunctions cloudbuild artifactregistry logging iam iamcredentials
      cloudresourcemanager firestore'

help() {
    cat <<EOF
usage: ./deploy.sh [VERB] [OPTION...]

  (no verb)   deploy the functions and their bindings, then verify; safe to run again
  verify      call every function as every caller, and print the trust map as measured
  env         print what a shell needs to try things out: eval "\$(./deploy.sh env)"
  destroy     remove what was deployed
  help        print this

  --local         on this machine instead of Google Cloud, with the same verbs
  --project=ID    default: gcloud's own, or local-project with --local
  --region=NAME   default: gcloud's own (run/region), or $DEFAULT_REGION
  --public        let everyone call login; without it, you alone. Give it to verify, too
  --dry-run       print the commands that would change something, and run none
  --quiet         destroy without asking first
  --delete-data   with destroy: the profiles' database, too
EOF
}

main() {
    VERB='' LOCAL='' PROJECT='' REGION='' PUBLIC='' DRY_RUN='' QUIET='' DELETE_DATA=''
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
            -*) die "unknown option: $word (./deploy.sh help lists them)" ;;
            deploy | verify | env | destroy | help)
                [ -z "$VERB" ] || die "one verb at a time, not $VERB and $word"
                VERB=$word ;;
            *) die "unknown verb: $word (./deploy.sh help lists them)" ;;
        esac
    done
    VERB=${VERB:-deploy}
    if [ "$VERB" = help ]; then help; exit; fi
    read_map
    start
    "$VERB"
}

# ---- reading the trust map

read_map() {
    local name who wrong
    wrong=$(echo "$TRUST_MAP" | awk 'NF && (NF != 6 || seen[$1]++ || $3 !~ /^(-|firestore)$/)')
    [ -z "$wrong" ] || die "this line of the trust map is incomplete, not known or there twice:
$wrong"
    FUNCTIONS=$(echo "$TRUST_MAP" | awk -v p="$PREFIX" 'NF { print p $1 }')
    for name in $FUNCTIONS; do
        case $name in "$BUILDER" | you | anonymous | policy | off | surroundings) die "$name cannot be a name: it is taken" ;; esac
        [[ $name =~ ^[a-z][a-z0-9-]{1,28}[a-z0-9]$ ]] || die "$name cannot be a name: 3 to 30 of a-z, 0-9 and -"
        [ -e "$(folder_of "$name")/main.py" ] || die "the trust map names $name, but there is no $(folder_of "$name")/main.py"
        for who in $(invokers_of "$name"); do
            # shellcheck disable=SC2086 # the names are words
            printf '%s\n' you anonymous $FUNCTIONS | grep -qxFe "$who" || die "the trust map lets $who call $name, but has no line for $who"
        done
    done
}

folder_of() { local name=${1#"$PREFIX"}; echo "functions/${name//-/_}"; }

entry() { echo "$TRUST_MAP" | awk -v f="${1#"$PREFIX"}" -v n="$2" '$1 == f { print $n }'; }   # FUNCTION COLUMN

invokers_of() {   # the callers that the map lets in: you, anonymous, functions
    local who
    for who in $(entry "$1" 2 | tr , ' '); do
        case $who in
            -) ;;
            you) echo you; if [ -n "$PUBLIC" ]; then everyone; fi ;;
            anonymous) everyone ;;
            *) echo "$PREFIX$who" ;;
        esac
    done
}

everyone() { if [ ! -e "${WORK:-}/not-public" ]; then echo anonymous; fi; }   # where that is allowed

members_of() {   # the same, as a policy names them
    local who
    for who in $(invokers_of "$1"); do
        case $who in
            you) echo "$YOU" ;;
            anonymous) echo allUsers ;;
            *) echo "serviceAccount:$(email_of "$who")" ;;
        esac
    done | sort -u
}

roles_of() {   # what an account may do in the project: role|title|condition, a line each
    local role
    if [ "$1" = "$BUILDER" ]; then
        for role in $BUILD_ROLES; do echo "$role||None"; done
    elif [ "$(entry "$1" 3)" = firestore ] && [ -z "$LOCAL" ]; then
        echo "datastore.user|$DATABASE|title=$DATABASE,expression=resource.name == 'projects/$PROJECT/databases/$DATABASE'"
    fi
}

variable() { echo "${1#"$PREFIX"}" | tr a-z- A-Z_; }

# ---- deploy

deploy() {
    local name jobs='' job failed=''
    preflight
    step 'Enabling the APIs' enable_apis
    step 'Creating the service accounts' create_accounts
    if [ -z "$LOCAL" ]; then step 'Creating the database' create_database; fi
    step 'Granting project roles' grant_roles
    for name in $FUNCTIONS; do   # side by side: no URL has to be waited for
        if [ -n "$DRY_RUN" ]; then deploy_function "$name"; continue; fi
        deploy_function "$name" &
        jobs="$jobs $!"
    done
    for job in $jobs; do wait "$job" || failed=1; done
    if [ -n "$failed" ]; then die 'not everything is deployed: mend what is said above, and run this again'; fi
    if [ -n "$DRY_RUN" ]; then return; fi
    verify
    if [ -e "$WORK/not-public" ]; then die 'all is deployed, but what everyone should call is not public: see above'; fi
    what_next
}

enable_apis() {
    local api missing=''
    for api in $APIS; do enabled "$api" || missing="$missing $api.googleapis.com"; done
    # shellcheck disable=SC2086 # the names are words
    if [ -n "$missing" ]; then change gcloud services enable $missing --project="$PROJECT" || return; fi
    set_number
}

create_accounts() {
    local name
    for name in $FUNCTIONS "$BUILDER"; do
        case $ACCOUNTS in *" $(email_of "$name") "*) continue ;; esac
        # IAM's ids have six characters or more, and "login" has five: it gets login-account,
        # except where that is no rule, as on this machine.
        if [ ${#name} -lt 6 ]; then
            if [ -z "$DRY_RUN" ] && create_account "$name" 2> /dev/null; then continue; fi
            if [ -z "$LOCAL" ]; then name=$name-account; fi
        fi
        create_account "$name" || return
    done
}

create_account() {
    local email=$1@$PROJECT.iam.gserviceaccount.com
    local DONE="account_is_ours $email"
    change gcloud iam service-accounts create "$1" --project="$PROJECT" \
        --display-name="$1" --description="$MADE_BY" || return
    ACCOUNTS="$ACCOUNTS$email "
}

create_database() {
    local DONE=database_is_there
    if ! echo "$TRUST_MAP" | grep -q firestore || database_is_there; then return; fi
    change gcloud firestore databases create --database="$DATABASE" --project="$PROJECT" \
        --location="$REGION" --type=firestore-native --format=none || return
    # gcloud is back before the database is there.
    [ -n "$DRY_RUN" ] || wait_for 'the database' database_is_there
}

grant_roles() {   # one after the other: changes to one policy, side by side, collide
    local name role title condition member
    see_granted || return
    for name in $FUNCTIONS "$BUILDER"; do
        member=serviceAccount:$(email_of "$name")
        roles_of "$name" | while IFS='|' read -r role title condition; do
            if echo "$GRANTED" | grep -qxF "$member|roles/$role|$title"; then continue; fi
            change gcloud projects add-iam-policy-binding "$PROJECT" --member="$member" \
                --role="roles/$role" --condition="$condition" --format=none || exit
        done || return
    done
}

deploy_function() {
    local name=$1 other variables='' entry_point how print failed='' started=$SECONDS
    local DONE='' PATIENCE_HERE=600
    stage "$name"
    entry_point=$(basename "$(folder_of "$name")")
    for other in $FUNCTIONS; do variables="$variables##$(variable "$other")_URL=$(url_of "$other")"; done
    if [ "$(entry "$name" 3)" = firestore ]; then variables="$variables##STORE=$STORE"; fi
    how=(--gen2 --runtime="$RUNTIME" --entry-point="$entry_point" --trigger-http
        --no-allow-unauthenticated --service-account="$(email_of "$name")"
        --build-service-account="projects/$PROJECT/serviceAccounts/$(email_of "$BUILDER")"
        --concurrency="$(entry "$name" 4)" --memory="$(entry "$name" 5)" --cpu=1
        --max-instances="$(entry "$name" 6)" --timeout=60s
        --set-env-vars="^##^GOOGLE_CLOUD_PROJECT=$PROJECT##THREADS=$(entry "$name" 4)$variables")
    print=$(fingerprint "$name" "${how[@]}")

    # What is there already is put right first: a build takes minutes.
    if echo "$SERVICES" | grep -qx "$name"; then set_policy "$name" || failed=1; fi
    if [ "$(found "$name" 3)|$(found "$name" 4)" != "$print|ACTIVE" ]; then
        DONE="is_active $name $print"
        change gcloud functions deploy "$name" --project="$PROJECT" --region="$REGION" \
            --source=".build/$name" "${how[@]}" \
            --update-labels="made-by=$MADE_BY,source=$print" --quiet --format=none || failed=1
        DONE=''
        if [ -n "$DRY_RUN" ]; then set_policy "$name"; return; fi
        # gcloud can report success for a function that does not run.
        if ! is_active "$name" "$print"; then
            echo "  $name is not deployed. Its log: gcloud functions logs read $name --region=$REGION --project=$PROJECT" >&2
            failed=1
        fi
        if is_no_service "$name"; then return 1; fi
        set_policy "$name" || failed=1
    fi
    if [ -n "$failed" ]; then return 1; fi
    echo "  $name is deployed. $((SECONDS - started)) s"
}

stage() {   # the folder that is deployed: the function, a copy of shared/, one requirements.txt
    local from to=.build/$1
    from=$(folder_of "$1")
    rm -rf "$to"
    mkdir -p "$to"
    cp -R "$from/." "$to"
    cp -R shared "$to/shared"
    find "$to" -name __pycache__ -prune -exec rm -rf {} +
    cat requirements.txt > "$to/requirements.txt"
    if [ -e "$from/requirements.txt" ]; then cat "$from/requirements.txt" >> "$to/requirements.txt"; fi
    echo .gcloudignore > "$to/.gcloudignore"   # without one, gcloud may make up its own
}

set_policy() {   # makes a service's policy exactly what the map says
    local file=.build/$1.policy.json wanted policy='{"bindings": []}' problem
    wanted=$(members_of "$1")
    if [ -n "$wanted" ]; then
        policy=$(echo "$wanted" | sed 's/.*/"&"/' | paste -s -d , -)
        policy='{"bindings": [{"role": "roles/run.invoker", "members": ['$policy']}]}'
    fi
    if [ -n "$DRY_RUN" ]; then
        change echo "$policy" | sed "s:\$: > $file:"
        change gcloud run services set-iam-policy "$1" "$file" --project="$PROJECT" \
            --region="$REGION" --quiet --format=none
        return
    fi
    if switched_off "$1"; then   # no policy means anything then
        change gcloud run services update "$1" --project="$PROJECT" --region="$REGION" \
            --invoker-iam-check --quiet --format=none || return
    elif [ $? = 2 ]; then return 1; fi
    if policy_is "$1" "$wanted"; then return; fi
    echo "$policy" > "$file"
    if problem=$(change gcloud run services set-iam-policy "$1" "$file" --project="$PROJECT" \
        --region="$REGION" --quiet --format=none 2>&1); then
        policy_is "$1" "$wanted" || {
            echo "  The policy of $1 cannot be seen to be the one that was set: does somebody else change it?" >&2
            return 1
        }
        return
    fi
    echo "$problem" >&2
    case $problem in *"permitted customer"* | *llowedPolicyMember*) ;; *) return 1 ;; esac
    echo "  $1 stays private: your organisation forbids allUsers (constraint iam.allowedPolicyMemberDomains). Its administrator can make an exception for this project; or leave out --public, and anonymous in the trust map." >&2
    : > "$WORK/not-public"
    set_policy "$1"
}

# ---- env and destroy

env() {
    local name
    must_be_deployed
    for name in $FUNCTIONS; do
        echo "export $(variable "$name")_URL='$(url_of "$name")'"
        echo "export $(variable "$name")_ACCOUNT='$(email_of "$name")'"
    done
    echo "export PROJECT_ID='$PROJECT'"
    echo "export REGION='$REGION'"
    if [ -n "$LOCAL" ]; then local_env; else echo "export CLOUDSDK_CORE_PROJECT='$PROJECT'"; fi
}

destroy() {
    local name ours elsewhere
    look
    elsewhere=$(deployed_elsewhere) || die 'it cannot be seen whether another region uses the same accounts'
    ours=$(found_ours)
    if [ -n "$DRY_RUN" ]; then
        ours=$FUNCTIONS
        for name in $FUNCTIONS "$BUILDER"; do
            if [ ${#name} -lt 6 ] && [ -z "$LOCAL" ]; then name=$name-account; fi
            ACCOUNTS="$ACCOUNTS$name@$PROJECT.iam.gserviceaccount.com "
        done
        for name in $FUNCTIONS "$BUILDER"; do
            GRANTED="$GRANTED$(roles_of "$name" | sed "s:^:serviceAccount\:$(email_of "$name")|roles/:")
"
        done
    fi
    if [ -z "$QUIET$DRY_RUN$LOCAL" ]; then ask "$(echo "$ours" | paste -s -d ' ' -)"; fi
    # In this order no policy is left with a member that no longer exists.
    # shellcheck disable=SC2086 # the names are words
    step 'Deleting the functions' delete_functions $ours
    if [ -n "$elsewhere" ]; then
        echo "Kept: the accounts and the database. The functions in $elsewhere use them, too." | paste -s -d ' ' -
        return
    fi
    step 'Taking back project roles' take_back_roles
    step 'Deleting the accounts' delete_accounts
    if [ -n "$LOCAL" ]; then end_local_project; return; fi
    if [ -n "$DELETE_DATA" ]; then step 'Deleting the database' delete_database
    elif database_is_there; then echo "Kept: the database $DATABASE with the profiles (--delete-data removes it)."; fi
    if [ -z "$DRY_RUN" ]; then echo 'Kept: the enabled APIs, and what Google keeps of builds (gcf-artifacts, gcf-v2-sources).'; fi
}

ask() {
    local answer=''
    echo "This removes from project $PROJECT, region $REGION:"
    echo "  functions: ${1:-none}"
    echo "  accounts: ${ACCOUNTS% }"
    if [ -n "$DELETE_DATA" ]; then echo "  the database $DATABASE, and every profile in it"; fi
    printf 'Go on? (y/N) '
    read -r answer || true
    case $answer in y | Y | yes) ;; *) die 'nothing was removed' ;; esac
}

delete_functions() {
    local name jobs='' job failed=''
    for name; do
        if [ -n "$DRY_RUN" ]; then delete_function "$name"; continue; fi
        delete_function "$name" &
        jobs="$jobs $!"
    done
    for job in $jobs; do wait "$job" || failed=1; done
    [ -z "$failed" ]
}

delete_function() {
    local DONE="function_is_gone $1" PATIENCE_HERE=300
    change gcloud functions delete "$1" --gen2 --project="$PROJECT" --region="$REGION" --quiet
}

take_back_roles() {
    local name emails='' email member role rest
    see_granted || return
    for name in $FUNCTIONS "$BUILDER"; do emails="$emails $(email_of "$name")"; done
    # shellcheck disable=SC2086 # the addresses are words
    for email in $(printf '%s\n' $emails $ACCOUNTS | sort -u); do
        if echo "${STRANGERS:-}" | grep -q "^$email|"; then continue; fi   # called like ours, but not ours
        echo "$GRANTED" | while IFS='|' read -r member role rest; do
            case $member in "serviceAccount:$email" | "deleted:serviceAccount:$email?"*)
                change gcloud projects remove-iam-policy-binding "$PROJECT" --member="$member" \
                    --role="$role" --all --format=none < /dev/null || exit ;;
            esac
        done || return
    done
}

delete_accounts() {
    local email DONE
    for email in $ACCOUNTS; do
        DONE="account_is_gone $email"
        change gcloud iam service-accounts delete "$email" --project="$PROJECT" --quiet || return
    done
}

delete_database() {
    if [ -z "$DRY_RUN" ] && ! database_is_there; then return; fi
    change gcloud firestore databases delete --database="$DATABASE" --project="$PROJECT" --quiet --format=none
}

what_next() {
    local here="--project=$PROJECT --region=$REGION"
    if [ -n "$LOCAL" ]; then here=--local; fi
    if [ ! -e functions/login/page.html ]; then return; fi
    cat <<EOF

Next, see it in a browser:

  eval "\$(./deploy.sh env $here)"
  gcloud run services proxy ${PREFIX}login --region=\$REGION --port=8080

and open http://localhost:8080. README.md goes on from here.
./deploy.sh destroy $here removes everything.
EOF
}

main "$@"
