# shellcheck shell=bash
# "deploy.sh --local --watch": deploys a function again whenever one of its files is saved.

watch() {
    local changed name watcher
    mkfifo "$WORK/changes"
    "$TOOL/.venv/bin/python" -I "$TOOL/tool/local/__main__.py" watch functions shared > "$WORK/changes" &
    watcher=$!
    trap 'kill $watcher; wait; echo; exit 0' INT TERM
    exec 4< "$WORK/changes"
    read -r changed <&4   # an empty line: from now on nothing is missed
    echo 'Watching. Save a file, and its function is deployed again. Ctrl-C ends the watching, not the functions.'
    while read -r changed <&4; do
        for name in $FUNCTIONS; do
            look_up "$name"
            case " $changed" in
                *" $FOLDER/"* | *' shared/'*) beside deploy_function "$name" ;;
            esac
        done
        all_of || true   # it has said why; the version from before goes on answering
        look_at_services
    done
}
