# shellcheck shell=bash
# What a function is deployed with: its staged folder, and the flags that say how Cloud Run runs it.

settings_of() {   # NAME: sets SETTINGS, the flags that say how Cloud Run runs the function
    local name=$1 other variables line
    variables="GOOGLE_CLOUD_PROJECT=$PROJECT
THREADS=$(flag "$name" concurrency 80)"
    for other in $(callees_of "$name"); do
        look_up "$other"
        set_url "$other"
        variables="$variables
${VARIABLE}_URL=$URL"
    done
    look_up "$name"
    if among firestore "$MAY_USE"; then variables="$variables
STORE=$STORE"; fi
    variables="$variables
$(variables_of "$name")"
    SETTINGS=(--function="${FOLDER##*/}" --base-image="$BASE_IMAGE" --automatic-updates
        --invoker-iam-check --service-account="$name$SA"
        --build-service-account="projects/$PROJECT/serviceAccounts/$BUILDER$SA"
        --set-env-vars="$(joined "$variables")")
    for line in concurrency=80 memory=512Mi cpu=1 max-instances=5 timeout=60 ingress=all; do
        case $FLAGS in *$'\n'"$name|--${line%%=*}="*) ;; *) SETTINGS[${#SETTINGS[@]}]=--$line ;; esac
    done
    while IFS= read -r line; do
        case $line in "$name|"*) SETTINGS[${#SETTINGS[@]}]=${line#*|} ;; esac
    done <<< "$FLAGS"
}

callees_of() {   # NAME: the functions whose URLs it gets: those whose line names it, and those that its variables ask for
    local other asked_for
    look_up "$1"
    asked_for=$(lines_of "$FOLDER/variables")
    for other in $FUNCTIONS; do
        look_up "$other"
        if among "${1#"$PREFIX"}" "$INVOKED_BY" || among "${VARIABLE}_URL" "$asked_for"; then echo "$other"; fi
    done
}

joined() {   # LINES: as one value of gcloud's, with a separator that does not occur in it
    local separator
    for separator in '##' '@@' ';;' '%%' '::' '||'; do case $1 in *"$separator"*) ;; *) break ;; esac; done
    printf '^%s^' "$separator"
    printf %s "$1" | awk -v s="$separator" 'NF { printf "%s%s", between, $0; between = s }'
}

stage() {   # the folder that is deployed: the function, a copy of shared/, one requirements.txt
    local from to=$STAGED/$1 file files place
    look_up "$1"
    from=$FOLDER
    rm -rf "$to"
    mkdir -p "$to"
    files=$(tracked "$from" shared)
    while read -r file; do
        case $file in "$from"/flags | "$from"/variables | "$from"/verify | "$from"/requirements.*) continue ;; esac
        if [ -d "$file" ]; then echo "  $file is a link to a folder, which gcloud would leave out. Put a copy of the folder there" >&2; return 1; fi
        if [ ! -e "$file" ]; then continue; fi   # deleted, and git has not been told yet
        place=$to/${file#"$from"/}
        [ -d "${place%/*}" ] || mkdir -p "${place%/*}"
        cp "$file" "$place"
    done <<< "$files"
    for file in requirements.txt "$from/requirements.txt"; do
        if [ -e "$file" ]; then awk '{ sub(/\r$/, ""); print }' "$file"; fi   # ends the last line, too
    done > "$to/requirements.txt"
    echo .gcloudignore > "$to/.gcloudignore"   # without one, gcloud may make up its own
}

tracked() {   # FOLDER...: its files that git tracks or would track, or without git all but dotfiles and caches
    if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
        git -c core.quotePath=false ls-files --cached --others --exclude-standard -- "$@"
    else
        find "$@" \( -name '.?*' -o -name __pycache__ -o -name '*.pyc' -o -name '*~' \) -prune -o \( -type f -o -type l \) -print
    fi 2> /dev/null | sort -u
}
