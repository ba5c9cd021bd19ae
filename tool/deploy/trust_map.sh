# shellcheck shell=bash
# Reads the app: its trust-map, and functions/NAME/flags and variables.
#
# MAP has a line for each function, without the prefix: name|invoked by|its account may use|what
# its variables begin with. FLAGS has a line for each flag: function|flag.

read_map() {
    local name problems urls flags variables
    [ -e trust-map ] || die "there is no trust-map in $PWD"
    problems=$(awk -f "$TOOL/tool/deploy/trust_map.awk" -v check=1 trust-map; folders_without_a_line)
    [ -z "$problems" ] || die "trust-map cannot be used:
$problems"
    MAP=$(awk -f "$TOOL/tool/deploy/trust_map.awk" trust-map)
    FLAGS=$'\n'
    FUNCTIONS=$(echo "$MAP" | sed "s/|.*//; s/^/$PREFIX/")
    urls=$(for name in $FUNCTIONS; do look_up "$name"; echo "${VARIABLE}_URL"; done)
    for name in $FUNCTIONS; do
        [[ $name =~ ^[a-z][a-z0-9-]{1,25}[a-z0-9]$ ]] ||
            die "$name cannot be a function's name: it needs 3 to 27 of a-z, 0-9 and -, with a letter first"
        case ${name#"$PREFIX"} in builder | you | anonymous) die "$name cannot be a function's name: it is taken" ;; esac
        look_up "$name"
        [ -e "$FOLDER/main.py" ] || die "trust-map names ${name#"$PREFIX"}, but there is no $FOLDER/main.py"
        flags=$(lines_of "$FOLDER/flags") variables=$(lines_of "$FOLDER/variables")
        check_lines "$flags" "$FOLDER/flags" '--?*' 'a flag of gcloud run deploy, such as --memory=512Mi'
        check_lines "$variables" "$FOLDER/variables" '[A-Za-z_]*=*' 'NAME=value, nor X_URL of a function X of trust-map' "$urls"
        refuse_flags "$flags" "$variables"
        if [ -n "$flags" ]; then FLAGS="$FLAGS$name|${flags//$'\n'/$'\n'$name|}"$'\n'; fi
        if [ "$VERB" = deploy ]; then variables_of "$name" > /dev/null; fi   # names what is missing
    done
}

folders_without_a_line() {
    local folder name lines
    lines=$(awk '{ print $1 }' trust-map)
    for folder in functions/*/; do
        name=${folder#functions/} name=${name%/}
        if [ -e "$folder/main.py" ] && ! among "${name//_/-}" "$lines"; then
            echo "  functions/$name has no line. To let nobody call it, add: ${name//_/-}  -  -"
        fi
    done
}

look_up() {   # FUNCTION: sets FOLDER, and what its line says: INVOKED_BY, MAY_USE, VARIABLE (what its variables begin with)
    local line name=${1#"$PREFIX"}
    FOLDER=functions/${name//-/_}
    while IFS='|' read -r line INVOKED_BY MAY_USE VARIABLE; do [ "$line" != "$name" ] || break; done <<< "$MAP"
    INVOKED_BY=${INVOKED_BY//,/ } MAY_USE=${MAY_USE//,/ }
}

lines_of() {   # FILE: without comments, and without blanks around a line; the last one may lack its end
    local line
    if [ ! -e "$1" ]; then return; fi
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        line=${line#"${line%%[![:blank:]]*}"} line=${line%"${line##*[![:blank:]]}"}
        case $line in '' | '#'*) ;; *) printf '%s\n' "$line" ;; esac
    done < "$1"
}

check_lines() {   # LINES FILE PATTERN MEANING [WORDS]: dies of a line that neither fits the pattern nor is one of the words
    local line
    while read -r line; do
        # shellcheck disable=SC2254 # the pattern is one
        case $line in '' | $3) ;; *) among "$line" "${5:-}" || die "$2: '$line' is not $4" ;; esac
    done <<< "$1"
}

variables_of() {   # FUNCTION: lines NAME=value; NAME=$OTHER takes the value that OTHER has in this shell
    local line other
    look_up "$1"
    while read -r line; do
        case $line in *=*) ;; *) continue ;; esac
        if [[ ${line#*=} =~ ^\$([A-Za-z_][A-Za-z0-9_]*)$ ]]; then
            other=${BASH_REMATCH[1]}
            [ -n "${!other+set}" ] || die "$FOLDER/variables: $line, but $other is not set in this shell"
            line=${line%%=*}=${!other}
        fi
        echo "$line"
    done < <(lines_of "$FOLDER/variables")
}

refuse_flags() {   # FLAGS VARIABLES: dies of one in FOLDER that would undo what a deploy makes true
    local line
    while read -r line; do
        case ${line%%=*} in
            --source | --function | --base-image | --service-account | --build-service-account | --region | --project | --labels | --revision-suffix)
                die "$FOLDER/flags: ${line%%=*} is set by deploy.sh" ;;
            --allow-unauthenticated | --no-allow-unauthenticated | --invoker-iam-check | --no-invoker-iam-check)
                die "$FOLDER/flags: ${line%%=*} would let everyone in or nobody; write that into trust-map" ;;
            --set-env-vars | --update-env-vars | --env-vars-file | --remove-env-vars | --clear-env-vars)
                die "$FOLDER/flags: variables stand in $FOLDER/variables" ;;
        esac
    done <<< "$1"
    while read -r line; do
        case ${line%%=*} in
            PORT | K_* | X_GOOGLE_* | GOOGLE_CLOUD_PROJECT | THREADS | STORE)
                die "$FOLDER/variables: ${line%%=*} is set by Cloud Run or by deploy.sh" ;;
        esac
    done <<< "$2"
}

flag() {   # FUNCTION NAME DEFAULT: the value of a flag
    local name line value=$3
    while IFS='|' read -r name line; do
        case "$name $line" in "$1 --$2="?*) value=${line#*=} ;; esac
    done <<< "$FLAGS"
    echo "$value"
}

# ---- who may call whom

callers_of() {   # the callers that the map lets in: you, anonymous, functions, members
    local who
    look_up "$1"
    for who in $INVOKED_BY; do
        case $who in
            -) ;;
            you) echo you; if [ -n "$PUBLIC" ]; then everyone "$1"; fi ;;
            anonymous) everyone "$1" ;;
            *:*) who=${who//\$PREFIX/$PREFIX}; echo "${who//\$PROJECT/$PROJECT}" ;;
            *) echo "$PREFIX$who" ;;
        esac
    done
}

everyone() { if [ ! -e "$WORK/not-public.$1" ]; then echo anonymous; fi; }   # where that is allowed

members_of() {   # the same, as a policy names them
    local who
    for who in $(callers_of "$1"); do as_member "$who"; done | sort -u
}

as_member() {   # CALLER
    case $1 in
        you) echo "$YOU" ;;
        anonymous) echo allUsers ;;
        *:*) echo "$1" ;;
        *) echo "serviceAccount:$1$SA" ;;
    esac
}

roles_of() {   # what an account may do in the project: role|condition, a line each
    local use
    if [ "$1" = "$BUILDER" ]; then echo 'roles/run.builder|'; return; fi
    look_up "$1"
    for use in $MAY_USE; do
        case $use in
            firestore) if [ -z "$LOCAL" ]; then echo "roles/datastore.user|$DATABASE"; fi ;;
            roles/*) echo "$use|" ;;
        esac
    done
}

secrets_of() {   # the names of the secrets that its flags mention
    local name line pair
    while IFS='|' read -r name line; do
        case "$name $line" in "$1 --set-secrets="*) line=${line#*=} ;; *) continue ;; esac
        for pair in ${line//,/ }; do pair=${pair#*=}; echo "${pair%%:*}"; done
    done <<< "$FLAGS"
}

uses_firestore() { among firestore "$(awk -F '|' '{ gsub(",", " ", $3); print $3 }' <<< "$MAP")"; }
