# shellcheck shell=bash
# "deploy.sh verify --as-everyone": lets you act as each function's account, and takes that back.

TOKEN_CREATOR=roles/iam.serviceAccountTokenCreator

act_as_everyone() {   # lets you make tokens of each function's account, until this ends
    local name email makers
    [ -n "$YOU" ] || die 'who you are is not in the credentials, so nothing can be granted to you'
    echo "Until verify ends, you may make tokens of the accounts of the functions ($TOKEN_CREATOR)." >&3
    trap 'give_back; rm -rf "$WORK"' EXIT
    for name in $FUNCTIONS; do
        email=$name$SA
        makers=$(makers_of "$email") || die "who may make tokens of $email cannot be seen"
        if echo "$makers" | grep -ixF "$YOU|$TOKEN_CREATOR" > /dev/null; then continue; fi
        LENT="$LENT $email"   # noted first: whatever happens, it is taken back
        change gcloud iam service-accounts add-iam-policy-binding "$email" --project="$PROJECT" \
            --member="$YOU" --role=$TOKEN_CREATOR --condition=None --format=none || die "you may not let yourself act as $name"
    done
    for name in $FUNCTIONS; do
        wait_for "your tokens of $name" token_of "$name" > /dev/null 2>&1 || true
    done
}

makers_of() {   # EMAIL: who may make tokens of the account: member|role
    attempt gcloud iam service-accounts get-iam-policy "$1" --project="$PROJECT" \
        --flatten='bindings[].members' --format='value[separator="|"](bindings.members,bindings.role)'
}

is_given_back() {   # EMAIL
    local DONE='' SILENT=1 makers
    makers=$(makers_of "$1" 2> /dev/null) || return 2
    ! echo "$makers" | grep -ixF "$YOU|$TOKEN_CREATOR" > /dev/null
}

give_back() {
    local email DONE
    for email in $LENT; do
        DONE="is_given_back $email"
        if change gcloud iam service-accounts remove-iam-policy-binding "$email" --project="$PROJECT" \
            --member="$YOU" --role=$TOKEN_CREATOR --condition=None --format=none; then
            echo "Taken back: your tokens of $email" >&3
        else
            echo "deploy.sh: you may still make tokens of $email. This ends it: gcloud iam service-accounts remove-iam-policy-binding $email --project=$PROJECT --member=$YOU --role=$TOKEN_CREATOR" >&2
        fi
    done
}
