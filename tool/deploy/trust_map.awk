# Reads a trust-map: three columns, # comments. Prints for each function name|invoked by|its account may
# use|what its variables begin with; or with check=1 only what is wrong, with its line, its column and
# what is allowed there.

{ sub(/\r$/, ""); sub(/#.*/, "") }
NF == 0 { next }
NF != 3 {
    wrong("it has " NF " columns; three are needed: function, invoked by, its account may use. " \
          "Several names in a column are joined by commas, without a space")
    next
}
$1 !~ /^[a-z][a-z0-9-]*$/ { wrong("column 1, " $1 ": a function's name consists of a-z, 0-9 and -"); next }
$1 in line { wrong("column 1, " $1 ": it has a line already, line " line[$1]); next }
{
    line[$1] = NR
    invokers[$1] = $2
    uses[$1] = $3
    order[++count] = $1
}

END {
    for (i = 1; i <= count; i++) {
        name = order[i]
        if (!check) { print name "|" invokers[name] "|" uses[name] "|" variable(name); continue }
        n = split(invokers[name], words, ",")
        for (j = 1; j <= n; j++) if (!may_invoke(words[j], n))
            wrong("column 2, " shown(words[j]) ": " (words[j] == "allUsers" ? "write anonymous for everyone; " : "") "allowed are you, anonymous, functions that have a line, members " \
                  "such as user:ada@example.com or group:admins@example.com, and - for nobody", line[name])
        n = split(uses[name], words, ",")
        for (j = 1; j <= n; j++) if (!(words[j] == "firestore" || words[j] ~ /^roles\/[A-Za-z0-9_.]+$/ || (words[j] == "-" && n == 1)))
            wrong("column 3, " shown(words[j]) ": allowed are firestore, roles such as roles/pubsub.publisher, " \
                  "and - for nothing", line[name])
    }
    if (check && !count) print "  it has no line. One function that you alone may call: hello  you  -"
}

function variable(name) { gsub("-", "_", name); return toupper(name) }

function may_invoke(who, n) {
    return who == "you" || who == "anonymous" || who in line || (who == "-" && n == 1) ||
        who ~ /^(user|group|serviceAccount|domain):[^:@ ]*@?[^:@ ]+$/ || who ~ /^principal(Set)?:\/\/.+$/
}

function shown(word) { return word == "" ? "nothing between two commas" : word }

function wrong(what, at) { if (check) print "  line " (at ? at : NR) ": " what }
