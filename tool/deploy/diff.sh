# shellcheck shell=bash
# "deploy.sh diff COMMIT": what trust-map and flags open, and close, compared with a commit. For a
# pull request.

diff() {
    local before now line opened=''
    [ -n "$ONLY" ] || die 'compared with which commit? For instance ./deploy.sh diff main'
    git rev-parse --verify --quiet "$ONLY^{commit}" > /dev/null || die "there is no commit $ONLY here"
    before=$(edges_of "$ONLY") now=$(edges_of '')
    while read -r line; do
        if [ -n "$line" ] && ! is_line "$line" "$before"; then echo "opened: $line"; opened=1; fi
    done <<< "$now"
    while read -r line; do
        if [ -z "$line" ] || is_line "$line" "$now"; then continue; fi
        case $line in *' may call '*) if is_line "anonymous may call ${line##* }" "$now"; then continue; fi ;; esac   # still may
        echo "closed: $line"
    done <<< "$before"
    if [ -n "$opened" ]; then die "this allows more than $ONLY does"; fi
    echo "Nothing is opened that $ONLY does not have."
}

edges_of() {   # COMMIT, or nothing for the files as they are: what they allow, a line each
    local file name
    at "$1" trust-map | awk -f "$TOOL/tool/deploy/trust_map.awk" /dev/stdin | awk -F '|' '
        { n = split($2, who, ","); for (i = 1; i <= n; i++) if (who[i] != "-") print who[i] " may call " $1 }
        { n = split($3, use, ","); for (i = 1; i <= n; i++) if (use[i] != "-") print "the account of " $1 " may use " use[i] }'
    if [ -n "$1" ]; then git ls-tree -r --name-only "$1" -- functions; else ls functions/*/flags; fi 2> /dev/null | while read -r file; do
        case $file in */flags) name=${file%/flags} name=${name##*/} ;; *) continue ;; esac
        at "$1" "$file" | sed -n 's/^[[:blank:]]*--set-secrets=//p' | tr , '\n' | sed "s/^[^=]*=//; s/:.*//; s/^/the account of ${name//_/-} may read the secret /"
    done
}

at() { if [ -n "$1" ]; then git show "$1:./$2" 2> /dev/null || true; else cat "$2"; fi; }   # COMMIT FILE

is_line() { case $'\n'$2$'\n' in *$'\n'"$1"$'\n'*) ;; *) return 1 ;; esac; }   # LINE LINES
