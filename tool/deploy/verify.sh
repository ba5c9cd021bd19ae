# shellcheck shell=bash
# "deploy.sh verify": calls every function as every caller, and says who was let in.

verify() {
    local name caller callers cell left width wrong='' unread='' shown lines
    must_be_deployed
    if [ -n "$AS_EVERYONE" ]; then act_as_everyone; fi
    shown="$FUNCTIONS $(left_the_map | paste -s -d ' ' -)"   # what has left the map can still be called
    see_inherited
    gcloud auth print-identity-token > "$WORK/token" 2> /dev/null < /dev/null || rm "$WORK/token"
    for name in $shown; do beside note_policy "$name"; done
    all_of || true
    callers="anonymous you $FUNCTIONS $(members_in_map)"
    for caller in $callers; do beside measure "$caller" "$shown"; done
    all_of || true

    if [ "$FORMAT" != text ]; then
        as_"$FORMAT" "$callers" "$shown"
        if grep WRONG "$WORK"/measured.* > /dev/null; then exit 1; fi
        return
    fi
    # shellcheck disable=SC2086 # the names are words
    left=$(printf '%s\n' $callers | column_width) width=$( { printf '%s\n' '             ' $shown; cut -d '|' -f 3 "$WORK"/measured.*; } | column_width)
    printf '\nThe trust map as measured: may the caller on the left call the function above? (ok: as trust-map says)\n  %*s' "$left" ''
    for name in $shown; do printf '%-*s' "$width" "$name"; done
    for caller in $callers; do
        printf '\n  %-*s' "$left" "$caller"
        while IFS='|' read -r name _ cell; do
            printf '%-*s' "$width" "$cell"
            case $cell in *WRONG*) wrong="$wrong, $caller -> $name" ;; esac
        done < "$(measured_of "$caller")"
    done
    printf '\n\nWho may, by the policies:\n'
    for name in $shown; do
        lines=$(allowed_by_policy "$name")
        lines=${lines//$'\n'/ }
        printf '  %-*s%s\n' "$width" "$name" "${lines:-nobody}"
        lines=$(problems_of "$name")
        if [ -n "$lines" ]; then echo "      ${lines//$'\n'/$'\n'      }"; fi
        case $lines in '') ;; 'its policy cannot be read') unread="$unread $name" ;; *) wrong="$wrong, what is said below $name" ;; esac
    done
    if [ -n "$INHERITED" ]; then
        echo 'And every one of them, by a role on the project or above it:'
        awk -F '|' '{ role = $0; sub(/^[^|]*[|][^|]*[|][^|]*[|]/, "", role); printf "  %s  %s (%s %s)\n", $1, role, $2, $3 }' <<< "$INHERITED"
    fi
    if [ -n "$HIDDEN" ]; then echo "Not known: $HIDDEN. They are not visible to you."; fi
    explain_marks "$callers"
    if [ -n "$wrong" ]; then die "this is not what trust-map says: ${wrong#, }"; fi
    if [ -n "$unread" ]; then die "whether all is as trust-map says is not known: the policy of$unread cannot be read"; fi
    echo 'Every call that could be made was answered as the map says.'
}

as_json() {   # CALLERS: each call and its answer, in the words of the table
    local caller name cell between=''
    echo '['
    for caller in $1; do
        while IFS='|' read -r name _ cell; do
            printf '%s  {"caller": "%s", "function": "%s", "measured": "%s"}' "$between" "$caller" "$name" "$cell"
            between=$',\n'
        done < "$(measured_of "$caller")"
    done
    printf '\n]\n'
}

as_mermaid() {   # CALLERS FUNCTIONS: an arrow for each call that was let in, dotted where it was not measured
    local caller name answer cell arrow called='' everyone=''
    echo 'flowchart LR'
    for caller in $1; do
        while IFS='|' read -r name answer cell; do
            if among "$name" "$everyone"; then continue; fi   # said once
            case $answer:$cell in
                in:*) arrow='-->' ;;
                *:in,*) arrow='-.->' ;;
                *) continue ;;
            esac
            echo "    $(node "$caller") $arrow $(node "$name")"
            called="$called $name"
            if [ "$caller" = anonymous ]; then everyone="$everyone $name"; fi
        done < "$(measured_of "$caller")"
    done
    for name in $2; do
        if ! among "$name" "$called"; then echo "    ${name//-/_}[\"$name<br>lets nobody in\"]"; fi
    done
}

node() { local id=${1//[!A-Za-z0-9]/_}; if [ "$id" = "$1" ]; then echo "$id"; else echo "$id[\"$1\"]"; fi; }

column_width() { awk '{ if (length > w) w = length } END { print w + 3 }'; }

note_policy() {   # NAME: its policy, whether it is the one that the map wants, and whom the map lets in
    local members=''
    if among "$1" "$FUNCTIONS"; then members=$(members_of "$1" | in_small_letters); fi
    echo "${members//$'\n'/ }" > "$WORK/members.$1"
    if [ ! -e "$WORK/policy.$1" ]; then   # else a deploy has just read it
        policy_of "$1" > "$WORK/policy.$1" 2> /dev/null || echo '? cannot be read||' > "$WORK/policy.$1"
    fi
    if noted_policy_is "$1" "$members"; then : > "$WORK/right.$1"; fi
}

problems_of() {   # NAME: what is not as a deploy makes it, a line each
    local line
    if ! among "$1" "$FUNCTIONS"; then echo "it is no longer in trust-map. This removes it: $(again "destroy $1")"; return; fi
    if [ ! -e "$WORK/right.$1" ]; then
        case $(cat "$WORK/policy.$1") in
            \?*) echo 'its policy cannot be read' ;;
            *) echo "its policy is not the one of trust-map, which lets in: $(members_of "$1" | paste -s -d ' ' - | sed 's/^$/nobody/'). Run $(again)" ;;
        esac
    fi
    case $(found "$1" 10) in [Tt]rue) echo "its invoker check is switched off: everybody is let in, whatever the policy says. Run $(again)" ;; esac
    {
        changed_by_hand "$1"
        # A deploy has just put the roles right, and may still read them as they were before.
        case $VERB$HIDDEN in verify | verify*' above project '*) roles_changed "$1" ;; esac
    } | while read -r line; do echo "$line. Run $(again)"; done
}

allowed_by_policy() {   # NAME: the members that its policy lets in
    local line member role condition
    while IFS= read -r line; do
        IFS='|' read -r member role _ <<< "$line"
        condition=${line#*|*|}   # read itself may lose a | at the end
        case $member in '' | \?*) echo "$member"; continue ;; esac
        if [ "$role" = roles/run.invoker ] || [ "$(about_role "$role")" != no ]; then echo "$member${condition:+ (if $condition)}"; fi
    done < "$WORK/policy.$1" | sort -u
}

# ---- measuring

measure() {   # CALLER FUNCTIONS: calls each function; notes what came, and whether it is what the map says
    local caller=$1 name token known='' expected members cell hook member kind kinds number=0
    member=$(as_member "$caller" | in_small_letters)
    look_up "$caller"
    hook=$FOLDER/verify
    kinds=()
    if token=$(token_of "$caller" 2> /dev/null < /dev/null); then
        known=1
        # shellcheck disable=SC2086 # the names are words
        while read -r kind; do kinds[${#kinds[@]}]=$kind; done <<< "$(call_all "$token" $2)"
    fi
    for name in $2; do
        read -r members < "$WORK/members.$name"
        expect "$member" "$members"
        kind=${kinds[number]:-} number=$((number + 1)) ANSWER=''
        if [ -z "$known" ]; then cell=$(by_policy "$caller" "$name" "$expected")
        elif comes_true "$name" "$caller" "$expected" ask "$token" "$name"; then cell="$STATUS ok"
        elif [ "$ANSWER" = unknown ]; then cell="? $STATUS"
        elif [ "$caller$ANSWER" = youin ] && you_inherit; then cell="$STATUS inherited"
        else cell="$STATUS WRONG"; fi
        # Where you may not act as the caller, the app may know how to ask through the caller itself.
        if [ -z "$known" ] && [ "$caller" != "$name" ] && [ -x "$hook" ]; then
            if comes_true "$name" "$caller" "$expected" ask_through "$hook" "$caller" "$name"; then cell="$ANSWER ok*"
            elif [ "$ANSWER" != unknown ]; then cell="$ANSWER WRONG*"; fi
        fi
        echo "$name|$ANSWER|$cell"
    done > "$(measured_of "$caller")"
}

measured_of() { echo "$WORK/measured.${1//\//_}"; }   # CALLER: the file with what was measured: function|answer|cell, a line each

expect() {   # MEMBER MEMBERS: sets expected: in or refused, by the map; either, where a group decides whose members nobody sees here
    expected=refused
    if among allusers "$2" || among "$1" "$2"; then expected=in; return; fi
    case "$1 $2" in
        allusers*) ;;
        *' group:'* | *' domain:'* | *' principalset:'*) expected=either ;;
    esac
}

members_in_map() {   # the members that the map names, without you
    local name who
    for name in $FUNCTIONS; do
        for who in $(callers_of "$name"); do
            case $who in "$YOU") ;; *:*) echo "$who" ;; esac
        done
    done | sort -u
}

comes_true() {   # NAME CALLER EXPECTED COMMAND...: asks; while a right policy does not work yet, asks again
    local name=$1 caller=$2 expected=$3 sentence
    shift 3
    sentence="$name to let $caller in"
    if [ "$expected" = refused ]; then sentence="$name to refuse $caller"; fi
    answers() { "$@"; case $expected:$ANSWER in either:in | either:refused | "$ANSWER:$expected") ;; *) return 1 ;; esac; }
    if answers "$@"; then return; fi
    if [ "$caller$ANSWER" = youin ] && you_inherit; then return 1; fi
    [ -e "$WORK/right.$name" ] && wait_for "$sentence" answers "$@"
}

ask() {   # TOKEN NAME: sets STATUS, and ANSWER: in, refused, or unknown
    local answer=$kind page=''   # the first answer is here already
    kind=''
    if [ -z "$answer" ]; then answer=$(call_all "$1" "$2"); fi
    STATUS=${answer%% *} ANSWER=in
    case $STATUS in '' | 000) STATUS=none ANSWER=unknown; return ;; esac
    case $answer in *text/html*) IFS= read -r -d '' -n 2000 page < "$WORK/page.$caller.$2" || true ;; *) return ;; esac
    case $STATUS:${page//$'\n'/ } in   # the platform's own pages; whatever else came is the function's
        40[13]:*"Your client does not have permission"*) ANSWER=refused ;;
        404:*"was not found on this server"* | 429:* | 50[0234]:*) ANSWER=unknown ;;
    esac
}

call_all() {   # TOKEN FUNCTION...: calls them all with one curl; prints status and content type, a line for each; the bodies are in $WORK
    # OPTIONS changes nothing in a function that keeps to HTTP. It does run the function's code.
    local token=$1 name
    shift
    # The token goes in by standard input: what stands in an argument, ps shows to everyone.
    {
        if [ -n "$token" ]; then printf 'header = "Authorization: Bearer %s"\n' "$token"; fi
        for name; do set_url "$name"; printf 'url = "%s/"\noutput = "page.%s.%s"\n' "$URL" "$caller" "$name"; done
    } | (cd "$WORK" && curl --disable --config - --silent --max-time 30 --noproxy 127.0.0.1 --user-agent deploy.sh-verify \
        -X OPTIONS --write-out '%{http_code} %{content_type}\n') || true
}

ask_through() {   # HOOK CALLER NAME: sets ANSWER to what the caller itself was answered
    local token=''
    if [ -e "$WORK/token" ]; then token="header = \"Authorization: Bearer $(cat "$WORK/token")\""; fi
    set_url "$2"
    ANSWER=$(echo "$token" | URL=$URL "$1" "${3#"$PREFIX"}" 2> /dev/null) || true
    case $ANSWER in in | refused) ;; *) ANSWER=unknown ;; esac
}

by_policy() {   # CALLER NAME EXPECTED: where nothing can be measured, what the policies say
    local said=refused
    if [ ! -e "$WORK/right.$2" ] || [ "$3" = either ]; then echo '? unknown'; return; fi
    if [ "$3" = in ]; then said=in; fi
    echo "$said, by policy"
}

you_inherit() {   # or may do, as a member of a group, or by what cannot be read
    if [ -n "$HIDDEN" ]; then return; fi
    awk -F '|' -v you="$YOU" 'tolower($1) == tolower(you) || /^(group|domain)/ { found = 1 } END { exit !found }' <<< "$INHERITED"
}

token_of() {   # CALLER: an ID token of the caller; anonymous has none
    # Its audience is gcloud's own, which every service accepts (of service accounts this is
    # inferred: gcloud functions call does so). What is measured here are the bindings; that
    # audiences are right shows in the calls that the functions make themselves.
    case $1 in
        anonymous) ;;
        you) cat "$WORK/token" ;;
        serviceAccount:*) gcloud auth print-identity-token --impersonate-service-account="${1#*:}" --include-email ;;
        *:*) return 1 ;;   # nobody can call as another person, or as a group
        *) gcloud auth print-identity-token --impersonate-service-account="$1$SA" --include-email ;;
    esac
}

explain_marks() {   # CALLERS: what the marks in the table mean, where they occur
    local caller hidden='' others=''
    if grep 'ok\*\|WRONG\*' "$WORK"/measured.* > /dev/null; then echo '* asked through the caller itself, by its file verify'; fi
    if grep inherited "$WORK/measured.you" > /dev/null; then echo 'inherited: you may call every function of this project, by a role on it or above it'; fi
    if grep '|? [0-9n]' "$WORK"/measured.* > /dev/null; then echo '? the call got no answer from which one could tell'; fi
    if [ ! -e "$WORK/token" ]; then echo 'you: there is no ID token for you. See gcloud auth print-identity-token'; fi
    for caller in $1; do
        case $caller in you | anonymous) continue ;; esac
        if ! grep 'by policy\|? unknown' "$(measured_of "$caller")" > /dev/null; then continue; fi
        case $caller in *:*) others=1 ;; *) hidden="$hidden $caller" ;; esac
    done
    if [ -n "$others" ]; then echo 'by policy: not measured, for nobody can call as another person or as a group'; fi
    if [ -n "$hidden" ]; then
        echo 'by policy: not measured, for you may not act as that caller. This lets you:'
        echo "  for name in$hidden; do gcloud iam service-accounts add-iam-policy-binding \$name$SA --project=$PROJECT --member=$YOU --role=roles/iam.serviceAccountTokenCreator; done"
    fi
}
