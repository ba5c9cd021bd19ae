# shellcheck shell=bash
# "deploy.sh explain URL": why the platform would answer a token with 401, 403 or 404, or let it in.
# What is known of the service is collected into a folder; explain.py reads it, and the token.
#
#   target         who signs tokens|project|region|end of its accounts' addresses|1: a host of the platform
#   service        name|region|URL|all URLs|ingress|invoker check is off|custom audiences; there is none: empty
#   grants         member|role|where|does the role hold run.routes.invoke|title of the condition, a line each
#   accounts       uniqueId|email, a line each; cannot be read: no such file
#   certificates   as https://www.googleapis.com/oauth2/v1/certs has them

check_url() {
    local form='^https?://[A-Za-z0-9.:-]+([/?#].*)?$'
    URL=$ONLY
    [ -n "$URL" ] || die 'explain needs the URL of the call, and a token: gcloud auth print-identity-token | ./deploy.sh explain URL'
    [[ $URL =~ $form ]] || die 'explain needs a URL that begins with http:// or https://'
}

explain() {
    local known=$WORK/known name signer=Google certificates=https://www.googleapis.com/oauth2/v1/certs
    exec 4<&0 < /dev/null   # nothing but explain.py reads the token
    mkdir "$known"
    if [ -n "$LOCAL" ]; then
        signer='this local project'
        certificates=http://127.0.0.1:$(sed -n 's/.*"token_port": \([0-9]*\).*/\1/p' "$LOCAL_STATE/project.json")/oauth2/v1/certs
    else "$TOOL/tool/python/venv" >&2; fi   # explain.py needs its packages
    find_service > "$known/service"
    IFS='|' read -r name REGION _ < "$known/service" || true
    printf '%s|' "$signer" "$PROJECT" "$REGION" "${SA#-sa}" > "$known/target"
    if is_of_platform; then echo 1; fi >> "$known/target"
    if [ -n "$name" ]; then
        beside note_accounts
        beside note_policy "$name"
        beside curl --disable --silent --fail --max-time 30 --noproxy 127.0.0.1 "$certificates" > "$known/certificates"
        see_inherited   # waits for what runs beside, too
        grants_of "$name" > "$known/grants"
    fi
    if [ -t 4 ]; then echo 'Paste a token, which the terminal will show, and end it with Enter and Ctrl-D. No token: Ctrl-D' >&2; fi
    "$TOOL/.venv/bin/python" -I "$TOOL/tool/deploy/explain.py" "$URL" "$known" <&4
}

host_of_url() {
    local host
    host=$(echo "$URL" | sed 's|^[^/]*//||; s|[/?#].*||' | tr '[:upper:]' '[:lower:]')
    if [ -n "$LOCAL" ]; then echo "${host/#localhost:/127.0.0.1:}"; return; fi
    host=${host%:443}
    echo "${host##*---}"   # the URL of a tag, TAG---HOST, is its service's
}

find_service() {   # its line, wherever in the project it is
    local annotation all fields='metadata.name,metadata.labels."cloud.googleapis.com/location",status.url'
    for annotation in urls ingress invoker-iam-disabled custom-audiences; do
        fields=$fields",metadata.annotations.\"run.googleapis.com/$annotation\""
    done
    all=$(gcloud run services list --project="$PROJECT" --format="value[separator=\"|\"]($fields)") ||
        die "the services of project $PROJECT cannot be listed. See the error above"
    echo "$all" | awk -F '|' -v url="//$(host_of_url)\"" 'index($3 "\"" $4, url)'
}

is_of_platform() {   # whether the host of the URL can be nobody else's
    case $(host_of_url) in *.run.app) [ -z "$LOCAL" ]; return ;; esac
    among "http://$(host_of_url)" "$ADDRESSES"   # here, also of a function that was deleted
}

note_accounts() {   # where the API is off or the list is not for you, there is none
    gcloud iam service-accounts list --project="$PROJECT" --format='value[separator="|"](uniqueId,email)' \
        > "$known/accounts" 2> /dev/null || rm "$known/accounts"
}

grants_of() {   # NAME: everybody who is named in its policy or above it
    local line member role type id holds
    case $HIDDEN in
        '') ;;
        *' of '*) ABOVE="?|any role|project|$PROJECT|" ;;
        *) ABOVE="$ABOVE"$'\n'"?|any role|something above project|$PROJECT|" ;;
    esac
    { sed "s/^[^|]*|[^|]*|/&service|$1|/" "$WORK/policy.$1"; echo "$ABOVE"; } | while IFS= read -r line; do
        IFS='|' read -r member role type id _ <<< "$line"
        case $member:$role in
            :*) continue ;;
            \?*) holds=unknown ;;
            *:roles/run.invoker) holds=yes ;;
            *) holds=$(about_role "$role") ;;
        esac
        echo "$member|$role|$type $id|$holds|${line#*|*|*|*|}"   # read itself may lose a | at the end
    done
}
