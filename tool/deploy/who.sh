# shellcheck shell=bash
# "deploy.sh who FUNCTION": every principal that could make the function run, and how. This file
# collects policies and roles; who.py finds the chains.

who() {
    local name=$PREFIX${ONLY#"$PREFIX"} function region account off
    [ -n "$ONLY" ] || die "who needs a function: $(echo "$FUNCTIONS" | paste -s -d ' ' -)"
    look
    if ! is_there "$name"; then
        among "$name" "$FUNCTIONS" || die "there is no function $name, but $(echo "$FUNCTIONS" | paste -s -d ' ' -)"
        die "$name is not deployed in project $PROJECT, region $REGION. Run $(again)"
    fi
    see_above
    facts_above > "$WORK/facts"
    if [ -n "$HIDDEN" ]; then echo "unread|$HIDDEN" >> "$WORK/facts"; fi
    while IFS='|' read -r function region _ _ _ _ _ _ account off _; do
        echo "function|$region/$function|$account|$off" >> "$WORK/facts"
        beside note_bindings function "$region/$function" \
            gcloud run services get-iam-policy "$function" --region="$region"
    done <<< "$FOUND"
    for account in $ACCOUNTS $STRANGERS; do
        echo "account|$account" >> "$WORK/facts"
        beside note_bindings account "$account" gcloud iam service-accounts get-iam-policy "$account"
    done
    all_of || true
    members_of "$name" | sed 's/^/wanted|/' >> "$WORK/facts"
    cat "$WORK"/bindings.* >> "$WORK/facts"
    note_roles "$(awk -F '|' '$1 == "binding" { print $5 }' "$WORK/facts")"
    { cat "$WORK/facts" "$WORK"/role.* 2> /dev/null || true; } | python "$TOOL/tool/deploy/who.py" "$REGION/$name" "$PROJECT" "$FORMAT"
}

see_above() {   # ABOVE: the bindings of the project and above it; HIDDEN: what of that cannot be read
    see_granted 2> /dev/null || ABOVE='' HIDDEN="the policies of project $PROJECT and above it"
}

facts_above() { sed -n 's/^\([^|][^|]*|[^|]*\)|\([^|]*|[^|]*\)|/binding|\2|\1|/p' <<< "$ABOVE"; }

note_bindings() {   # TYPE ID COMMAND...: the bindings of a policy
    local bindings SILENT=1 type=$1 id=$2
    shift 2
    if bindings=$(attempt "$@" --project="$PROJECT" --flatten='bindings[].members' \
        --format='value[separator="|"](bindings.members,bindings.role,bindings.condition.title)' 2> /dev/null); then
        echo "$bindings" | awk -F '|' -v about="binding|$type|$id|" '$1 { print about $0 }'
    else echo "unread|the policy of $type ${id##*/}"; fi > "$WORK/bindings.$type.${id//\//_}"
}

# ---- roles: which permissions they hold is asked of Google, for lists of roles grow old

note_roles() {   # ROLES: looks into each
    local role
    for role in $(echo "$1" | sort -u); do beside note_role "$role"; done
    all_of || true
}

note_role() {   # ROLE
    local permissions SILENT=1 role=$1 where=''
    case $1 in */*/roles/*)   # a project's own: projects/ID/roles/NAME
        role=${1##*/} where=${1%%s/*} where=--$where=$(echo "$1" | cut -d / -f 2) ;;
    esac
    permissions=$(attempt gcloud iam roles describe "$role" ${where:+"$where"} \
        --format='value(includedPermissions)' 2> /dev/null) || permissions='?'
    echo "role|$1|$permissions" > "$(note_of "$1")"
}

note_of() { echo "$WORK/role.${1//\//_}"; }   # ROLE

about_role() {   # ROLE: whether it lets its members call a function: yes, no, or unknown where it cannot be looked into
    if [ ! -e "$(note_of "$1")" ]; then note_role "$1"; fi
    case ";$(cut -d '|' -f 3 "$(note_of "$1")");" in
        *';run.routes.invoke;'*) echo yes ;;
        ';?;') echo unknown ;;
        *) echo no ;;
    esac
}

see_inherited() {   # INHERITED: who may call every function by a role on the project or above: member|type|id|role and its condition
    if [ "$VERB" != deploy ] || [ -n "$GRANTS_CHANGED" ]; then see_above; fi
    # The roles that deploy.sh itself gives do not hold run.routes.invoke. All others are looked into.
    facts_above | awk -F '|' '$5 !~ /^roles\/(run.builder|datastore.user|iam.serviceAccountTokenCreator)$/' > "$WORK/facts"
    note_roles "$(cut -d '|' -f 5 "$WORK/facts")"
    INHERITED=''
    if grep -e '[|;]run.routes.invoke' -e '|?$' "$WORK"/role.* > /dev/null 2>&1; then   # else there is nobody
        INHERITED=$(cat "$WORK/facts" "$WORK"/role.* | python "$TOOL/tool/deploy/who.py" inherited)
    fi
}
