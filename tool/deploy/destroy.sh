# shellcheck shell=bash
# "deploy.sh destroy": removes what the labels and descriptions say was made by this script. It
# needs no trust-map, and no functions/ here.

destroy() {
    local ours elsewhere
    if [ -n "$DRY_RUN" ]; then dry_destroy; return; fi
    look
    ours=$(found_ours)
    if [ -n "$ONLY" ]; then destroy_one "$PREFIX${ONLY#"$PREFIX"}"; return; fi
    elsewhere=$(found_elsewhere)
    if [ -z "$QUIET$LOCAL" ]; then ask_first "$ours" "$elsewhere"; fi
    # In this order no policy is left with a member that no longer exists.
    # shellcheck disable=SC2086 # the names are words
    step 'Deleting the functions' delete_functions $ours
    if [ -n "$elsewhere" ]; then
        echo "Kept: the service accounts and the database. The functions in $elsewhere use them, too." | paste -s -d ' ' -
        return
    fi
    # shellcheck disable=SC2086
    step 'Taking back roles' take_back_roles $ACCOUNTS
    # shellcheck disable=SC2086
    step 'Deleting the service accounts' delete_accounts $ACCOUNTS
    if [ -n "$LOCAL" ]; then
        rm -f "$LOCAL_STATE/${PREFIX}data.db"*
        if [ -z "$(found_beside)" ]; then end_local_project; else echo "Kept: the local project, for $(found_beside | paste -s -d ' ' -)"; fi
        return
    fi
    keep_or_delete_database
    echo 'Kept: the enabled APIs, and what Google keeps of builds (repository cloud-run-source-deploy, bucket run-sources-...).'
}

destroy_one() {   # NAME: one function with its account, for instance one that has left the map
    local name=$1 email
    email=$1$SA
    if ! among "$name" "$(found_ours)" && ! among "$email" "$ACCOUNTS"; then
        die "there is no function $name here that this script made"
    fi
    if [ -z "$QUIET$LOCAL" ]; then ACCOUNTS=" $email"; DELETE_DATA=''; ask_first "$name" ''; fi
    if among "$name" "$(found_ours)"; then step 'Deleting the function' delete_functions "$name"; fi
    if among "$name" "$(awk -F '|' -v r="$REGION" '$2 != r { print $1 }' <<< "$FOUND")"; then
        echo "Kept: its service account. The function runs in another region, too."
        return
    fi
    step 'Taking back its roles' take_back_roles "$email"
    step 'Deleting its service account' delete_accounts "$email"
    echo "If trust-map still has its line, take that out, and run $(again): then no policy names it any more."
}

dry_destroy() {   # what a deploy by the present map would have made
    local name emails=''
    read_map
    FOUND='' ACCOUNTS=''
    for name in $FUNCTIONS; do emails="$emails $name$SA"; done
    emails="$emails $BUILDER$SA"
    for name in $FUNCTIONS "$BUILDER"; do
        GRANTED="$GRANTED$(roles_of "$name" | sed "s:^:serviceAccount\:$name$SA|:")
"
    done
    # shellcheck disable=SC2086
    step 'Deleting the functions' delete_functions $FUNCTIONS
    # shellcheck disable=SC2086
    step 'Taking back roles' take_back_roles $emails
    # shellcheck disable=SC2086
    step 'Deleting the service accounts' delete_accounts $emails
    if [ -n "$DELETE_DATA" ] && [ -z "$LOCAL" ] && uses_firestore; then step 'Deleting the database' delete_database; fi
}

ask_first() {   # FUNCTIONS REGIONS-KEPT
    local answer=''
    echo "This removes from project $PROJECT, region $REGION:"
    echo "  functions: $(echo "${1:-none}" | paste -s -d ' ' -)"
    if [ -z "$2" ]; then
        echo "  service accounts, with their roles:${ACCOUNTS:- none}"
        if [ -n "$DELETE_DATA" ]; then echo "  the database $DATABASE, and all that is in it"; fi
    fi
    printf 'Go on? (y/N) '
    read -r answer || true
    case $answer in y | Y | yes) ;; *) die 'nothing was removed' ;; esac
}

delete_functions() {
    local name
    for name; do
        if [ -n "$DRY_RUN" ]; then delete_function "$name"; else beside delete_function "$name"; fi
    done
    all_of
}

delete_function() {
    local DONE="service_is_gone $1"
    change gcloud run services delete "$1" --project="$PROJECT" --region="$REGION" --quiet
}

take_back_roles() {   # EMAIL...: also what a deleted account of this name has left behind
    local email member role secret secrets DONE
    see_granted || return
    for email; do
        while IFS='|' read -r member role; do
            if [ -z "$member" ]; then continue; fi
            DONE="role_is_gone $member $role"
            change gcloud projects remove-iam-policy-binding "$PROJECT" --member="$member" \
                --role="$role" --all --format=none || return
        done < <(awk -F '|' -v e="serviceAccount:$email" '
            { m = tolower($1); w = tolower(e) }
            (m == w || index(m, "deleted:" w "?") == 1) && !seen[$1 $2]++ { print $1 "|" $2 }' <<< "$GRANTED")
    done
    if [ -n "$DRY_RUN" ] || [ $# = 0 ] || ! enabled secretmanager; then return; fi
    if ! secrets=$(attempt gcloud secrets list --project="$PROJECT" --format='value(name.basename())' 2> /dev/null); then
        printf '\n    The secrets of project %s cannot be listed. A binding of theirs that names one of these service accounts stays; it lets nobody in once the account is deleted ...' "$PROJECT" >&3
        return
    fi
    for secret in $secrets; do
        for member in $(readers_of "$secret"); do
            if ! among "${member#serviceAccount:}" "$@"; then continue; fi
            DONE="reader_is_gone $secret $member"
            change gcloud secrets remove-iam-policy-binding "$secret" --project="$PROJECT" --member="$member" \
                --role=roles/secretmanager.secretAccessor --format=none || return
        done
    done
}

role_is_gone() {   # MEMBER ROLE
    local DONE='' SILENT=1
    see_granted 2> /dev/null || return 2
    ! among "$(echo "$1|$2" | in_small_letters)" "$(echo "$GRANTED" | cut -d '|' -f 1,2 | in_small_letters)"
}

reader_is_gone() {   # SECRET MEMBER
    local there DONE='' SILENT=1
    there=$(attempt gcloud secrets get-iam-policy "$1" --project="$PROJECT" --flatten='bindings[].members' \
        --format='value(bindings.members)' 2> /dev/null) || return 2
    ! among "$2" "$there"
}

delete_accounts() {
    local email DONE
    for email; do
        DONE="account_is_gone $email"
        change gcloud iam service-accounts delete "$email" --project="$PROJECT" --quiet || return
    done
}

keep_or_delete_database() {
    local type
    if ! enabled firestore; then return; fi
    if ! type=$(database_type 2> /dev/null); then
        echo "Whether there is a database $DATABASE cannot be seen." >&2
        if [ -n "$DELETE_DATA" ]; then die "the database $DATABASE may still be there. The role roles/datastore.owner lets you see and delete it. Then run $(again "destroy --delete-data")"; fi
    elif [ -z "$type" ]; then return
    elif [ -n "$DELETE_DATA" ]; then step 'Deleting the database' delete_database
    else echo "Kept: the database $DATABASE. --delete-data removes it."; fi
}

delete_database() {
    local DONE=database_is_gone
    change gcloud firestore databases delete --database="$DATABASE" --project="$PROJECT" --quiet --format=none
}
