# shellcheck shell=bash
# What is there already, and whose it is. What cannot be read is neither there nor gone: each
# question here has three answers, yes (0), no (1) and unknown (2).
#
# FOUND has a line for each service of the project, with the columns of LOOKED_AT. A revision is
# named NAME-FINGERPRINT-TIME by a deploy. Whatever else changes a service makes a revision of
# another name, so that a change by hand shows. What makes none is compared itself.

LOOKED_AT='metadata.name,metadata.labels."cloud.googleapis.com/location",metadata.labels.made-by'
LOOKED_AT=$LOOKED_AT',spec.template.metadata.name'
LOOKED_AT=$LOOKED_AT',status.latestCreatedRevisionName,status.latestReadyRevisionName'
LOOKED_AT=$LOOKED_AT',status.conditions.map().extract("type","status")'
LOOKED_AT=$LOOKED_AT',status.traffic.map().extract("latestRevision","percent")'
LOOKED_AT=$LOOKED_AT',spec.template.spec.serviceAccountName'
LOOKED_AT=$LOOKED_AT',metadata.annotations."run.googleapis.com/invoker-iam-disabled",metadata.namespace'
LOOKED_AT=$LOOKED_AT',metadata.annotations."run.googleapis.com/ingress"'

look() {   # notes the enabled APIs, services and accounts of the project
    if [ -n "$DRY_RUN" ]; then return; fi
    ENABLED=$(attempt gcloud services list --enabled --project="$PROJECT" --format='value(config.name)') ||
        die "project $PROJECT cannot be used. See the error above"
    look_at_services || die "the services of project $PROJECT cannot be listed. See the error above"
    if enabled iam; then
        look_at_accounts || die "the service accounts of project $PROJECT cannot be listed. See the error above"
    fi
}

look_at_services() {
    if enabled run; then
        FOUND=$(attempt gcloud run services list --project="$PROJECT" --format="value[separator=\"|\"]($LOOKED_AT)")
    fi
}

look_at_accounts() {   # ours, when each was made, and those of others
    local all email description
    all=$(attempt gcloud iam service-accounts list --project="$PROJECT" --format='value[separator="|"](email,description)') || return
    ACCOUNTS='' MADE_AT='' STRANGERS=''
    while IFS='|' read -r email description; do
        case $description in
            "$MADE_BY "*[!0-9]*) STRANGERS="$STRANGERS $email" ;;
            "$MADE_BY" | "$MADE_BY "*) ACCOUNTS="$ACCOUNTS $email" MADE_AT="$MADE_AT ${description#"$MADE_BY"}" ;;
            *) STRANGERS="$STRANGERS $email" ;;
        esac
    done <<< "$all"
}

enabled() { among "$1.googleapis.com" "$ENABLED"; }

is_there() { case $'\n'$FOUND in *$'\n'"$1|$REGION|"*) ;; *) return 1 ;; esac; }   # FUNCTION

found() {   # FUNCTION COLUMN
    local columns
    while IFS='|' read -ra columns; do
        if [ "${columns[0]:-}|${columns[1]:-}" = "$1|$REGION" ]; then echo "${columns[$2 - 1]:-}"; fi
    done <<< "$FOUND"
}

line_found() {   # FUNCTION
    local line
    while read -r line; do
        case $line in "$1|$REGION|"*) echo "$line" ;; esac
    done <<< "$FOUND"
}

found_ours() { awk -F '|' -v m="$MADE_BY" -v r="$REGION" '$3 == m && $2 == r { print $1 }' <<< "$FOUND"; }

found_elsewhere() {   # the other regions of the project that have functions of ours
    awk -F '|' -v m="$MADE_BY" -v r="$REGION" '$3 == m && $2 != r { print $2 }' <<< "$FOUND" | sort -u
}

found_beside() {   # what was deployed with another PREFIX
    awk -F '|' -v m="$MADE_BY" '$3 != m && $3 ~ /function-trust-map$/ { print $1 }' <<< "$FOUND"
}

found_number() { awk -F '|' 'NR == 1 { print $11 }' <<< "$FOUND"; }

left_the_map() {   # functions of ours that are deployed, and have no line any more
    local name
    for name in $(found_ours); do
        if ! among "$name" "$FUNCTIONS"; then echo "$name"; fi
    done
}

first_time() {   # what is asked only where nothing is deployed yet, for each call of gcloud takes a second
    local version billing
    version=$(gcloud --version 2> /dev/null | sed -n 's/^Google Cloud SDK \([0-9]*\).*/\1/p') || true
    [ "${version:-0}" -ge "$GCLOUD_NEEDED" ] || die "gcloud ${version:-?} is too old, $GCLOUD_NEEDED is needed. Run gcloud components update"
    # Empty means no. Whoever may not see the billing account is not stopped here.
    if billing=$(gcloud billing projects describe "$PROJECT" --format='value(billingEnabled)' 2> /dev/null < /dev/null) &&
        [ "$billing" != True ]; then
        die "project $PROJECT has no billing account. See https://console.cloud.google.com/billing/linkedaccount?project=$PROJECT"
    fi
}

preflight() {
    local name
    if [ -n "$DRY_RUN" ]; then return; fi
    look
    if [ -z "$LOCAL$(found_ours)" ]; then first_time; fi
    for name in $FUNCTIONS; do
        if is_there "$name" && [ "$(found "$name" 3)" != "$MADE_BY" ]; then
            die "project $PROJECT has a Cloud Run service $name that this script did not make. Delete it, or take another project, region or PREFIX"
        fi
    done
    for name in $FUNCTIONS "$BUILDER"; do
        if among "$name$SA" "$STRANGERS"; then
            die "project $PROJECT has a service account $name$SA that this script did not make. Delete it, or take another project or PREFIX"
        fi
    done
    for name in $(left_the_map); do
        echo "$name is still deployed, but no longer in trust-map. This removes it: $(again "destroy $name")" >&2
    done
}

again() {   # [WORDS]: this script, with the same project, region, prefix and app
    local where="--project=$PROJECT --region=$REGION"
    if [ -n "$LOCAL" ]; then where=--local; fi
    if [ -n "$LOCAL" ] && [ "$PROJECT" != local-project ]; then where="--local --project=$PROJECT"; fi
    if [ "$APP" != "$TOOL" ]; then where="$where --app=$(quoted "$APP")"; fi
    echo "${PREFIX:+PREFIX=$PREFIX }./deploy.sh${1:+ $1} $where"
}

must_be_deployed() {
    local name
    if [ "$VERB" = deploy ]; then return; fi
    look
    for name in $FUNCTIONS; do
        is_there "$name" || die "$name is not deployed in project $PROJECT, region $REGION. Run $(again)"
    done
    set_number
}

# ---- a service

fingerprint() {   # NAME ARGUMENT...: changes when the staged folder does, or a setting
    local name=$1
    shift
    {
        # shellcheck disable=SC2016 # macOS has the one, Linux the other
        (cd "$STAGED" && find "$name" -type f | LC_ALL=C sort | tr '\n' '\0' |
            xargs -0 sh -c 'sha256sum "$@" 2> /dev/null || shasum -a 256 "$@"' sh)
        echo "${*//"${NUMBER:-\$PROJECT_NUMBER}"/NUMBER}"   # --dry-run does not know it
    } | { sha256sum 2> /dev/null || shasum -a 256; } | cut -c 1-12
}

is_as_deployed() {   # NAME FINGERPRINT: by what was found: ready, of this source, with these settings
    local revision created ready conditions
    IFS='|' read -r _ _ _ revision created ready conditions _ <<< "$(line_found "$1")"
    case $revision in "$1-$2-"*) serves "$created" "$ready" "$conditions" ;; *) return 1 ;; esac
}

serves() {   # CREATED READY CONDITIONS: whether the newest revision is the one that answers
    [ -n "$1" ] && [ "$1" = "$2" ] || return 1
    case $3 in *"['Ready', 'True']"*) ;; *) return 1 ;; esac
}

changed_by_hand() {   # NAME: what was changed since the last deploy, if anything; most of it is seen by the revision's name
    local revision created ready conditions account email ingress wanted
    IFS='|' read -r _ _ _ revision created ready conditions _ account _ _ ingress <<< "$(line_found "$1")"
    email=$1$SA wanted=$(flag "$1" ingress all)
    if ! [[ $revision =~ ^$1-[0-9a-f]{12}-[0-9]+$ ]]; then echo "its revision $created was not made by deploy.sh"; fi
    if [ "$account" != "$email" ]; then echo "it runs as $account, not as $email"; fi
    if [ "${ingress:-all}" != "$wanted" ]; then echo "its ingress is $ingress, not $wanted"; fi
    if ! all_to_latest "$1"; then echo 'not all calls go to its latest revision'; fi
    if ! serves "$created" "$ready" "$conditions"; then echo "its latest revision $created is not ready"; fi
}

all_to_latest() { [ "$(found "$1" 8)" = '[True, 100]' ]; }   # NAME

now_serves() {   # NAME REVISION: asked anew, for what an operation says of its end proves nothing
    local DONE='' SILENT=1 answer named created ready conditions
    answer=$(attempt gcloud run services describe "$1" --region="$REGION" --project="$PROJECT" --format="value[separator=\"|\"](spec.template.metadata.name,status.latestCreatedRevisionName,status.latestReadyRevisionName,status.conditions.map().extract(\"type\",\"status\"))" 2> /dev/null) || return 2
    IFS='|' read -r named created ready conditions <<< "$answer"
    # Another deploy of the same source may have come after this one.
    case $named in "${2%-*}"-*) [ "${named##*-}" -ge "${2##*-}" ] && serves "$created" "$ready" "$conditions" ;; *) return 1 ;; esac
}

service_is_gone() {   # NAME
    local there DONE='' SILENT=1
    there=$(attempt gcloud run services list --region="$REGION" --project="$PROJECT" --format='value(metadata.name)' 2> /dev/null) || return 2
    ! among "$1" "$there"
}

# ---- accounts and the database

account_is_ours() {   # EMAIL
    case $(gcloud iam service-accounts describe "$1" --project="$PROJECT" --format='value(description)' 2> /dev/null < /dev/null) in
        "$MADE_BY" | "$MADE_BY "*) ;;
        *) return 1 ;;
    esac
}

account_is_gone() {   # EMAIL
    local said
    if said=$(gcloud iam service-accounts describe "$1" --project="$PROJECT" --format='value(email)' 2>&1 < /dev/null); then return 1; fi
    case $said in *NOT_FOUND* | *"Unknown service account"*) ;; *) return 2 ;; esac
}

database_type() {   # prints its type, or nothing where it is not there; fails where that cannot be read
    local type DONE='' SILENT=1 errors
    errors=$(mktemp "$WORK/XXXXXX")
    if type=$(attempt gcloud firestore databases describe --database="$DATABASE" --project="$PROJECT" \
        --format='value(type)' 2> "$errors"); then echo "$type"; return; fi
    case $(cat "$errors") in *NOT_FOUND* | *"does not exist"* | *"not found"*) return ;; esac
    cat "$errors" >&2
    return 2
}

database_is_there() { [ "$(database_type 2> /dev/null)" = FIRESTORE_NATIVE ]; }

database_is_gone() { local type; type=$(database_type 2> /dev/null) && [ -z "$type" ]; }

# The title of a condition may hold a |. Wherever there is one, it stands last in its line.

see_granted() {   # the policies of the project and above it: ABOVE has member|role|type|id|title of the condition, a line each
    local fields='policy.bindings.members,policy.bindings.role,type,id,policy.bindings.condition.title'
    if [ -n "$DRY_RUN" ]; then return; fi
    if ! ABOVE=$(gcloud projects get-ancestors-iam-policy "$PROJECT" --flatten='policy.bindings[].members' \
        --format="value[separator='|']($fields)" 2> /dev/null < /dev/null); then   # what is above may be hidden from you
        ABOVE=$(attempt gcloud projects get-iam-policy "$PROJECT" --flatten='bindings[].members' \
            --format='value[separator="|"](bindings.members,bindings.role,bindings.condition.title)') || return
        ABOVE=$(echo "$ABOVE" | sed "s/^[^|]*|[^|]*|/&project|$PROJECT|/") HIDDEN="the policies above project $PROJECT"
    fi
    GRANTED=$(awk -F '|' '$3 == "project" { sub(/[|]project[|][^|]*[|]/, "|"); print }' <<< "$ABOVE")
}

granted_to() {   # EMAIL: role|title of the condition, a word each; the case of an address means nothing
    awk -F '|' -v m="serviceAccount:$1" 'tolower($1) == tolower(m) { sub(/^[^|]*[|]/, ""); gsub(/[ \t]/, "_"); print }' <<< "$GRANTED"
}

roles_changed() {   # NAME: the roles that its account has against the map, or lacks
    local role granted
    granted=$(granted_to "$1$SA")
    for role in $granted; do
        if ! among "$role" "$(roles_of "$1")"; then echo "its service account has ${role%%|*}, which trust-map does not give it"; fi
    done | uniq
    for role in $(roles_of "$1"); do
        if ! among "$role" "$granted"; then echo "its service account lacks ${role%%|*}"; fi
    done
}

readers_of() {   # SECRET: the members that may read it; none where its policy cannot be read
    if [ -n "$DRY_RUN" ]; then return; fi
    gcloud secrets get-iam-policy "$1" --project="$PROJECT" --flatten='bindings[].members' \
        --format='value(bindings.members)' 2> /dev/null < /dev/null || true
}

# ---- a service's policy

policy_of() {   # NAME: member|role|title of the condition, a line each
    attempt gcloud run services get-iam-policy "$1" --project="$PROJECT" --region="$REGION" \
        --flatten='bindings[].members' \
        --format='value[separator="|"](bindings.members,bindings.role,bindings.condition.title)' |
        sed '/^|*$/d' | sort
}

policy_is() {   # NAME MEMBERS: reads its policy anew
    policy_of "$1" > "$WORK/policy.$1" || return 2
    noted_policy_is "$1" "$2"
}

noted_policy_is() {   # NAME MEMBERS: whether these may invoke the service, and nothing else is in its policy
    awk -F '|' -v members="${2//$'\n'/ }" '
        BEGIN { n = split(tolower(members), words, " "); for (i = 1; i <= n; i++) left[words[i]] = 1 }
        !(tolower($1) in left) || $2 != "roles/run.invoker" || $3 != "" || NF > 3 { other = 1 }
        { delete left[tolower($1)] }
        END { for (member in left) other = 1; exit other }' "$WORK/policy.$1"
}

in_small_letters() { tr '[:upper:]' '[:lower:]'; }   # IAM ignores the case of addresses

# ---- a deploy that failed

new_builder_failed() {   # NAME: whether a build failed that may only have come too early for its new account
    [ -z "$LOCAL" ] && [ "$(last_error)" = build ] && [ "$(youngest_account)" -lt 600 ] || return 1
    case $(build_log "$1" | tr '[:upper:]' '[:lower:]') in '' | *permission* | *denied*) ;; *) return 1 ;; esac
}

build_log() {   # NAME: the end of the log of its last build, where it can be read
    local here="--region=$REGION --project=$PROJECT" build
    # That the path of the source begins like this is taken from gcloud's code.
    # shellcheck disable=SC2086 # the options are words
    build=$(gcloud builds list $here --filter="source.storageSource.object~^services/$1/" \
        --sort-by=~createTime --limit=1 --format='value(id)' 2> /dev/null < /dev/null) || true
    # shellcheck disable=SC2086
    if [ -n "$build" ]; then { gcloud builds log "$build" $here 2> /dev/null < /dev/null || true; } | tail -12; fi
}

last_error() {   # what kind of error the last command of this function ended with: build, start, other
    local text
    text=$(error_in "$LAST_ERROR" | tr '[:upper:]' '[:lower:]')
    case $text in
        *'build failed'*) echo build ;;
        *'failed to start'* | *'healthcheck failed'* | *'is not ready and cannot serve'*) echo start ;;
        *) echo other ;;
    esac
}

not_deployed() {   # NAME: says so, with the end of the log in which the cause stands
    local here="--region=$REGION --project=$PROJECT"
    echo "  $1 is not deployed." >&2
    if [ -n "$LOCAL" ]; then return; fi   # there, the error itself names the cause
    case $(last_error) in
        build)
            build_log "$1" | sed 's/^/    /' >&2
            echo "  The logs of builds: gcloud builds list $here" >&2 ;;
        start)
            # shellcheck disable=SC2086 # the options are words
            { gcloud run services logs read "$1" $here --limit=12 2> /dev/null < /dev/null || true; } | sed 's/^/    /' >&2
            echo "  All of its log: gcloud run services logs read $1 $here" >&2 ;;
    esac
}
