# shellcheck shell=bash
# "deploy.sh diff COMMIT": what trust-map opens, and closes, compared with a commit. For a pull request.

diff() {
    local before line opened=''
    [ -n "$ONLY" ] || die 'compared with which commit? For instance ./deploy.sh diff main'
    git rev-parse --verify --quiet "$ONLY^{commit}" > /dev/null || die "there is no commit $ONLY here"
    before=$({ git show "$ONLY:./trust-map" 2> /dev/null || true; } | edges)
    while read -r line; do
        if [ -n "$line" ] && ! is_line "$line" "$before"; then echo "opened: $line"; opened=1; fi
    done < <(edges < trust-map)
    while read -r line; do
        if [ -n "$line" ] && ! is_line "$line" "$(edges < trust-map)"; then echo "closed: $line"; fi
    done <<< "$before"
    if [ -n "$opened" ]; then die "trust-map opens what $ONLY does not have"; fi
    echo "trust-map opens nothing that $ONLY does not have."
}

edges() {   # what a trust-map allows, a line each
    awk -f "$TOOL/deploy/trust_map.awk" /dev/stdin | awk -F '|' '
        { n = split($2, who, ","); for (i = 1; i <= n; i++) if (who[i] != "-") print who[i] " may call " $1 }
        { n = split($3, use, ","); for (i = 1; i <= n; i++) if (use[i] != "-") print "the account of " $1 " may use " use[i] }'
}

is_line() { case $'\n'$2$'\n' in *$'\n'"$1"$'\n'*) ;; *) return 1 ;; esac; }   # LINE LINES
