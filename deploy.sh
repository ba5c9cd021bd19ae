#!/usr/bin/env bash
# Deploys the functions, and makes exactly those calls possible that trust-map lists.
# "./deploy.sh help" tells how to use it. Bash 3.2 is enough.
set -euo pipefail
self=${BASH_SOURCE[0]}
while [ -L "$self" ]; do   # called by a link to it
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
TOOL=$(cd "$(dirname "$self")" && pwd)
. "$TOOL/tool/deploy/running.sh"     # how a command is run, tried again, interrupted, or only printed
. "$TOOL/tool/deploy/trust_map.sh"   # the app: trust-map, flags, variables
. "$TOOL/tool/deploy/targets.sh"     # Google Cloud or this machine
. "$TOOL/tool/deploy/found.sh"       # what is there already
. "$TOOL/tool/deploy/staging.sh"     # the folder and the flags that a function is deployed with
. "$TOOL/tool/deploy/verify.sh"      # the trust map as measured
. "$TOOL/tool/deploy/as_everyone.sh" # for as long as it is measured, as each function's account
. "$TOOL/tool/deploy/who.sh"         # who could make a function run
. "$TOOL/tool/deploy/explain.sh"     # why a token is let in, or is not
. "$TOOL/tool/deploy/diff.sh"        # what a change of trust-map opens
. "$TOOL/tool/deploy/destroy.sh"     # the way back
. "$TOOL/tool/deploy/watch.sh"       # deploying again whenever a file is saved

PREFIX=${PREFIX:-}   # put before every name, as in PREFIX=dev-, so that several copies can live in one project
DEFAULT_REGION=us-central1
BASE_IMAGE=python314
GCLOUD_NEEDED=528
PATIENCE_FOR_BUILDER=${PATIENCE_FOR_BUILDER:-60}   # seconds before a new build account is tried again
BUILDER=${PREFIX}builder              # builds the functions, with a service account of its own
MADE_BY=${PREFIX}function-trust-map   # marks what this script made: nothing else is touched
APIS='run cloudbuild artifactregistry logging iam iamcredentials cloudresourcemanager'

help() {
    cat <<END
usage: ./deploy.sh [VERB] [OPTION...]

  (none), deploy   deploy the functions and their bindings, then verify; safe to run again
  verify           call every function as every caller, and print the trust map as measured
  who FUNCTION     print every principal that could make the function run, how, and what ends it
  explain URL      say why the platform lets in a token (on standard input), or answers it with 401, 403 or 404;
                   exit status: 0 let in, 3 refused or unknown
  diff COMMIT      print what trust-map and flags open and close, compared with that commit; fails if they open something
  env              print what a shell needs to try things out: eval "\$(./deploy.sh env)"
  destroy [NAME]   remove what was deployed, or one function
  help             print this

  --local         on this machine instead of Google Cloud, with the same verbs
  --project=ID    default: gcloud's own, or local-project with --local
  --region=NAME   default: gcloud's own (run/region), or $DEFAULT_REGION
  --app=DIR       the folder of trust-map and functions/; default: the one of deploy.sh
  --public        let everyone call what "you" may call; give it to verify, too
  --dry-run       print the commands that would change something, and run none
  --as-everyone   with verify: let yourself act as each function's account, until verify ends
  --format=FORM   with verify and who: text, json or mermaid
  --watch         with --local: deploy again whenever a file is saved, until Ctrl-C
  --propagation=SECONDS   with --local: how long a change of a policy takes, as on Google Cloud
  --quiet         destroy without asking first
  --delete-data   with destroy: the database, too

PREFIX=dev- ./deploy.sh puts dev- before every name, so that several copies can live in one project.
END
}

main() {
    VERB='' ONLY='' LOCAL='' PROJECT='' REGION='' APP=$TOOL PUBLIC='' DRY_RUN='' WATCH='' QUIET='' DELETE_DATA='' AS_EVERYONE='' FORMAT=text PROPAGATION=''
    local word
    for word; do
        case $word in
            -h | --help) VERB=help ;;
            --local) LOCAL=1 ;;
            --public) PUBLIC=1 ;;
            --dry-run) DRY_RUN=1 ;;
            --watch) WATCH=1 ;;
            --quiet) QUIET=1 ;;
            --delete-data) DELETE_DATA=1 ;;
            --as-everyone) AS_EVERYONE=1 ;;
            --format=text | --format=json | --format=mermaid) FORMAT=${word#*=} ;;
            --format=*) die '--format is text, json or mermaid' ;;
            --propagation=?*) PROPAGATION=${word#*=} ;;
            --project=?*) PROJECT=${word#*=} ;;
            --region=?*) REGION=${word#*=} ;;
            --app=?*) APP=${word#*=} ;;
            --format | --propagation | --project | --region | --app) die "write $word=VALUE, in one word" ;;
            -*) die "unknown option: $word (./deploy.sh help lists them)" ;;
            deploy | verify | who | explain | diff | env | destroy | help)
                [ -z "$VERB" ] || die "one verb at a time, not $VERB and $word"
                VERB=$word ;;
            *)
                case $VERB$ONLY in
                    destroy | who | diff | explain) ONLY=$word ;;
                    explain*) die 'explain takes one URL; the token comes by standard input' ;;   # it may be what follows
                    destroy?* | who?* | diff?*) die "$VERB takes one name, not $ONLY and $word" ;;
                    *) die "unknown verb: $word (./deploy.sh help lists them)" ;;
                esac ;;
        esac
    done
    VERB=${VERB:-deploy}
    if [ "$VERB" = help ]; then help; exit; fi
    if [ -n "$WATCH" ] && [ "$VERB$LOCAL" != deploy1 ]; then die '--watch goes with --local, and with no verb'; fi
    if [ -n "$AS_EVERYONE" ] && [ "$VERB" != verify ]; then die '--as-everyone goes with verify'; fi
    if [ "$FORMAT" != text ] && [ "$VERB" != verify ] && [ "$VERB" != who ]; then die '--format goes with verify and who'; fi
    case $PROPAGATION in *[!0-9]*) die '--propagation needs a number of seconds' ;; esac
    if [ -n "$PROPAGATION" ] && [ "$VERB$LOCAL" != deploy1 ]; then die '--propagation goes with --local, and with no verb'; fi
    if [ "$VERB" = explain ]; then check_url; fi
    case $PREFIX in *[!a-z0-9-]*) die "PREFIX=$PREFIX cannot begin a name: it may only contain a-z, 0-9 and -" ;; esac
    cd "$APP" 2> /dev/null || die "there is no folder $APP"
    case $VERB in destroy | explain) FUNCTIONS='' MAP='' FLAGS='' ;; *) read_map ;; esac
    if [ "$VERB" = diff ]; then diff; exit; fi
    start
    "$VERB"
}

# ---- deploy. Up to here, nothing has been changed.

deploy() {
    local name
    preflight
    step 'Enabling the APIs' enable_apis
    step 'Creating the service accounts' create_accounts
    if [ -z "$LOCAL" ] && uses_firestore; then step 'Creating the database' create_database; fi
    step 'Granting roles' grant_roles
    for name in $FUNCTIONS; do   # side by side: no URL has to be waited for
        if [ -n "$DRY_RUN" ]; then deploy_function "$name"; else beside deploy_function "$name"; fi
    done
    all_of || die 'not everything is deployed. Correct the errors above, and run this again'
    if [ -n "$DRY_RUN" ]; then return; fi
    if [ -e "$WORK/deployed" ]; then look_at_services; fi
    verify
    if [ -n "$WATCH" ]; then watch; else echo "To try it: eval \"\$($(again env))\""; fi
}

enable_apis() {
    local api wanted=$APIS missing=''
    if [ -z "$LOCAL" ] && uses_firestore; then wanted="$wanted firestore"; fi
    for api in $FUNCTIONS; do if [ -n "$(secrets_of "$api")" ]; then wanted="$wanted secretmanager"; break; fi; done
    for api in $wanted; do enabled "$api" || missing="$missing $api.googleapis.com"; done
    # shellcheck disable=SC2086 # the names are words
    if [ -n "$missing" ]; then change gcloud services enable $missing --project="$PROJECT" || return; fi
    ENABLED="$ENABLED $missing"
    set_number
}

create_accounts() {
    local name email made_at DONE running
    running=$(found_ours)
    if [ -n "$running" ]; then running="$running $BUILDER"; fi
    for name in $FUNCTIONS "$BUILDER"; do
        email=$name$SA
        # An account that was just deleted may still be listed. Where a function runs, its account is there.
        if among "$email" "$ACCOUNTS" && among "$name" "$running"; then continue; fi
        made_at=$(date +%s) DONE="account_is_ours $email"
        change gcloud iam service-accounts create "$name-sa" --project="$PROJECT" \
            --display-name="$name" --description="$MADE_BY $made_at" || return
        MADE_AT="$MADE_AT $made_at"
    done
}

create_database() {
    local type DONE=database_is_there
    if [ -z "$DRY_RUN" ]; then
        type=$(database_type) || return
        case $type in
            FIRESTORE_NATIVE) return ;;
            ?*) { echo; echo "  The database $DATABASE is in Datastore mode, and Firestore's is needed. Take another PREFIX, or delete it: gcloud firestore databases delete --database=$DATABASE --project=$PROJECT"; } >&2; return 1 ;;
        esac
    fi
    change gcloud firestore databases create --database="$DATABASE" --project="$PROJECT" \
        --location="$REGION" --type=firestore-native --format=none || return
    # gcloud is back before the database is there.
    [ -n "$DRY_RUN" ] || wait_for 'the database' database_is_there
}

grant_roles() {   # one after the other: two changes of one policy at the same time collide
    local name member role database granted condition secret taken DONE
    see_granted || return
    for name in $FUNCTIONS "$BUILDER"; do
        member=serviceAccount:$name$SA granted=$(granted_to "$name$SA") taken=''
        for role in $granted; do   # role|condition: what the map does not give is taken back
            if among "$role" "$(roles_of "$name")" || among "${role%%|*}" "$taken"; then continue; fi
            DONE="role_is_gone $member ${role%%|*}"
            change gcloud projects remove-iam-policy-binding "$PROJECT" --member="$member" \
                --role="${role%%|*}" --all --format=none || return
            GRANTS_CHANGED=1 taken="$taken ${role%%|*}"
            printf '\n    took %s back from %s ...' "${role%%|*}" "$member" >&3
            granted=$(echo "$granted" | grep -v "^${role%%|*}|" || true)
        done
        DONE=''
        for role in $(roles_of "$name"); do
            if among "$role" "$granted"; then continue; fi
            database=${role#*|} condition=None
            if [ -n "$database" ]; then condition="title=$database,expression=resource.name == 'projects/$PROJECT/databases/$database'"; fi
            change gcloud projects add-iam-policy-binding "$PROJECT" --member="$member" \
                --role="${role%%|*}" --condition="$condition" --format=none || return
            GRANTS_CHANGED=1
        done
        for secret in $(secrets_of "$name"); do
            if among "$member" "$(readers_of "$secret")"; then continue; fi
            change gcloud secrets add-iam-policy-binding "$secret" --project="$PROJECT" --member="$member" \
                --role=roles/secretmanager.secretAccessor --format=none || return
        done
    done
}

deploy_function() {
    local name=$1 print revision failed='' refused='' deployed=unchanged began=$SECONDS DONE='' ABOUT="$1: "
    stage "$name" || return
    settings_of "$name"
    print=$(fingerprint "$name" "${SETTINGS[@]}")
    revision=$name-$print-$(date +%s)
    if [ -n "$DRY_RUN" ]; then
        echo "# Deploying $name, of these files"
        (cd "$STAGED" && find "$name" -type f | LC_ALL=C sort | sed 's/^/#   /')
        run_deploy "$name" "$revision"
        set_policy "$name"
        return
    fi

    # What is there already is put right first: a build takes minutes.
    if is_there "$name"; then set_policy "$name" || refused=1; fi
    if ! is_as_deployed "$name" "$print" || [ -n "$(changed_by_hand "$name")" ]; then
        DONE="now_serves $name $revision"
        if ! run_deploy "$name" "$revision"; then
            if new_builder_failed "$name"; then   # its role takes effect after minutes: that is worth one more build
                echo "  $name: building once more, because the build account is new" >&2
                pause "$PATIENCE_FOR_BUILDER"
                run_deploy "$name" "$revision" || failed=1
            else failed=1; fi
        fi
        DONE=''
        if [ -n "$failed" ]; then not_deployed "$name"; return 1; fi
        # gcloud can report success for a revision that does not serve.
        if ! now_serves "$name" "$revision"; then
            echo "  $name is not deployed. gcloud reported success, but revision $revision is not seen to serve: gcloud run services describe $name --region=$REGION --project=$PROJECT" >&2
            return 1
        fi
        if [ -z "$refused" ]; then set_policy "$name" || refused=1; fi
        : > "$WORK/deployed"
        deployed="deployed. $((SECONDS - began)) s"
    fi
    if [ -n "$refused" ]; then echo "  $name is deployed, but its policy is not the one of trust-map" >&2; return 1; fi
    echo "  $name is $deployed"
}

run_deploy() {   # NAME REVISION
    change gcloud run deploy "$1" --project="$PROJECT" --region="$REGION" --source="$STAGED/$1" \
        "${SETTINGS[@]}" --labels="made-by=$MADE_BY" --revision-suffix="${2#"$1-"}" \
        --quiet --format=none || return
    if [ -z "$DRY_RUN" ] && is_there "$1" && ! all_to_latest "$1"; then   # after a roll-back
        change gcloud run services update-traffic "$1" --project="$PROJECT" --region="$REGION" --to-latest --quiet --format=none
    fi
}

set_policy() {   # NAME: makes a service's policy exactly what the map says; one that is right is not touched
    local name=$1 file=$STAGED/$1.policy.json wanted policy='{"bindings": []}' problem removed
    wanted=$(members_of "$name")
    if [ -n "$wanted" ]; then
        policy=$(echo "$wanted" | sed 's/.*/"&"/' | paste -s -d , -)
        policy='{"bindings": [{"role": "roles/run.invoker", "members": ['$policy']}]}'
    fi
    if [ -n "$DRY_RUN" ]; then
        echo "$(change echo "$policy") > $(quoted "$file")"
        change gcloud run services set-iam-policy "$name" "$file" --project="$PROJECT" \
            --region="$REGION" --quiet --format=none
        return
    fi
    case $(found "$name" 10) in [Tt]rue)   # no policy means anything then
        change gcloud run services update "$name" --project="$PROJECT" --region="$REGION" \
            --invoker-iam-check --quiet --format=none || return
        echo "  $name: switched the invoker check on again" ;;
    esac
    if policy_is "$name" "$wanted"; then return; fi
    removed=$(while IFS='|' read -r who role _; do
        if [ "$role" != roles/run.invoker ] || ! among "$who" "$wanted"; then echo "$who"; fi
    done < "$WORK/policy.$name")
    echo "$policy" > "$file"
    if problem=$(SILENT=1 change gcloud run services set-iam-policy "$name" "$file" --project="$PROJECT" \
        --region="$REGION" --quiet --format=none 2>&1); then
        if [ -n "$removed" ]; then echo "  $name: removed $removed" | paste -s -d ' ' -; fi
        # Right after a change, the policy from before may still be read.
        wait_for "the policy of $name to be readable" policy_is "$name" "$wanted" || {
            echo "  The policy of $name is not the one that was just set. Does somebody else change it?" >&2
            return 1
        }
        return
    fi
    echo "$problem" >&2
    case $problem in *'does not exist'*) echo "  $name: trust-map names an account that does not exist. Correct it, or make it: gcloud iam service-accounts create NAME --project=$PROJECT" >&2 ;; esac
    refused_members "$name" "$problem" "$wanted"
}

refused_members() {   # NAME PROBLEM MEMBERS: an organisation may forbid some; without allUsers the rest can be set
    case $2 in *"permitted customer"* | *llowedPolicyMember*) ;; *) return 1 ;; esac
    if among allUsers "$3" && [ ! -e "$WORK/not-public.$1" ]; then
        echo "  $1 stays private: your organisation forbids allUsers (domain-restricted sharing). Leave out --public, or \"anonymous\" in trust-map; or ask its administrator. Google's own alternative is to switch off the invoker check of this one service (gcloud run services update $1 --no-invoker-iam-check --project=$PROJECT --region=$REGION). This script does not do that, for then no policy shows that the function is open." >&2
        : > "$WORK/not-public.$1"
        set_policy "$1"
        return 1
    fi
    echo "  Your organisation forbids one of these as a member in the policy of $1: $3. Write other members into trust-map, or ask its administrator" | paste -s -d ' ' - >&2
    return 1
}

# ---- env

env() {
    local name there=''
    look
    set_number
    for name in $FUNCTIONS; do
        look_up "$name"
        if ! is_there "$name"; then echo "deploy.sh: $name is not deployed, so it has no ${VARIABLE}_URL yet" >&2; continue; fi
        there=1
        set_url "$name"
        export_line "${VARIABLE}_URL" "$URL"
        export_line "${VARIABLE}_ACCOUNT" "$name$SA"
        if [ -n "$LOCAL" ]; then export_line "${VARIABLE}_METADATA_HOST" "$METADATA_HOST"; fi
    done
    if [ -z "$there$LOCAL" ]; then die "nothing is deployed in project $PROJECT, region $REGION. Run $(again)"; fi
    export_line PROJECT_ID "$PROJECT"
    export_line REGION "$REGION"
    if [ -z "$LOCAL" ]; then export_line CLOUDSDK_CORE_PROJECT "$PROJECT"; return; fi
    export_line LOCAL_STATE "$LOCAL_STATE"
    if [ -n "$OWN_STATE" ]; then export_line LOCAL_STATE_OF "$PWD"; fi   # so that another clone does not take it for its own
    echo "export PATH=$(quoted "$TOOL/tool/local/bin"):\"\$PATH\""
    # shellcheck disable=SC2016 # the shell that reads it shall expand it
    echo 'export no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"'
    # shellcheck disable=SC2016
    echo 'export NO_PROXY="$no_proxy"'
}

export_line() { echo "export $1=$(quoted "$2")"; }

main "$@"
