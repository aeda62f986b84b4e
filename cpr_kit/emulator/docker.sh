#!/bin/sh
# The `docker` of a program under `cpr emulate`. What is pushed to Google's registries, or pulled from them, goes to the
# emulator's registry: CPR_REGISTRY is HOST:PORT, or "engine" where images stay in this machine's engine.
# Every other call is the real client's: the next `docker` on PATH.
set -f

here=${0%/*}
real= command= reference= globals= options= quiet= all= from_stdin= pushes= built= expects=

say() { printf 'cpr emulate: %s\n' "$*" >&2; }

refuse() {
    say "$*"
    exit 1
}

quote() { printf " '%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

is_googles_host() {
    case $1 in *-docker.pkg.dev | gcr.io | *.gcr.io) return 0 ;; esac
    return 1
}

is_googles() { [ "${1%%/*}" != "$1" ] && is_googles_host "${1%%/*}"; }

# The real client, with the options that stood before the command.
docker() { eval "\"\$real\" $globals \"\$@\""; }

is_here() { docker image inspect "$reference" >/dev/null 2>&1; }

untag() { docker rmi "$there" >/dev/null 2>&1; }

# The command's own options, but for an address of ours; with --quiet the name alone is printed, as by the client.
transfer() {
    there=$CPR_REGISTRY/$reference
    trap untag EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ "$command" = push ]; then docker tag "$reference" "$there" || exit 1; fi
    if [ -n "$quiet" ]; then
        eval "docker $command $options \"\$there\"" >/dev/null || return
        printf '%s\n' "$reference"
    else
        eval "docker $command $options \"\$there\""
    fi
}

push() {
    [ -z "$all" ] || refuse "docker push --all-tags: the emulator's registry takes one tag at a time; name it"
    if [ "$CPR_REGISTRY" = engine ]; then
        is_here || refuse "there is no image $reference here; build it: docker build -t $reference DIR"
        [ -z "$quiet" ] || printf '%s\n' "$reference"
        say "$reference stays in this machine's engine, where models find it"
    else
        transfer
    fi
}

pull() {
    # Only a registry can give an image a name with a digest: here it is the tag sha256-..., or in the engine its id.
    name=$reference
    case $reference in *@*)
        name=${reference%@*} digest=${reference#*@} last=${reference%@*}
        last=${last##*/}
        case $last in *:*) name=${name%:*} ;; esac
        if [ "$CPR_REGISTRY" = engine ]; then name=$digest; else name=$name:$(printf %s "$digest" | tr : -); fi
        ;;
    esac
    if [ "$CPR_REGISTRY" != engine ] && transfer; then
        docker tag "$there" "$name" || return
        if [ "$name" != "$reference" ]; then say "$reference has the name $name here"; fi
    elif docker image inspect "$name" >/dev/null 2>&1; then
        say "$reference is in this machine's engine"
    else
        refuse "nobody has pushed $reference, and this machine's engine has no such image either"
    fi
}

IFS=:
for folder in $PATH; do
    folder=${folder:-.}
    if [ "$folder" != "$here" ] && [ -f "$folder/docker" ] && [ -x "$folder/docker" ]; then
        real=$folder/docker
        break
    fi
done
unset IFS
[ -n "$real" ] || refuse "there is no docker on PATH but the emulator's own"

for word; do
    if [ -n "$expects" ]; then
        eval "$expects=\$$expects\$(quote \"\$word\")"
        expects=
    elif [ -z "$command" ]; then
        case $word in
        --config | -c | --context | -H | --host | -l | --log-level | --tlscacert | --tlscert | --tlskey)
            globals=$globals$(quote "$word") expects=globals
            ;;
        -*) globals=$globals$(quote "$word") ;;
        image) ;;
        *) command=$word ;;
        esac
    else
        case $word in
        --platform | -u | --username | -p | --password) options=$options$(quote "$word") expects=options ;;
        -a | --all-tags | -aq | -qa) all=yes ;;
        -q | --quiet) quiet=yes options="$options $word" ;;
        --password-stdin) from_stdin=yes ;;
        --push | --push=true | *type=registry*) pushes=yes ;;
        -*) options=$options$(quote "$word") ;;
        *) reference=$word ;;
        esac
    fi
    if [ "$command" = build ] || [ "$command" = buildx ]; then
        tagged=${word#--tag=}
        if is_googles "${tagged#-t}"; then built=${tagged#-t}; fi
    fi
done

case $command in
push | pull) if [ -n "$CPR_REGISTRY" ] && is_googles "$reference"; then
    "$command"
    exit
fi ;;
login | logout) reference=${reference#*://} && if is_googles_host "${reference%%/*}"; then
    [ -z "$from_stdin" ] || cat >/dev/null
    [ "$command" = logout ] || echo "Login Succeeded"
    exit
fi ;;
build | buildx) if [ -n "$pushes" ] && [ -n "$built" ]; then
    refuse "a build that pushes by itself would go to Google: build without --push, then docker push $built"
fi ;;
esac
exec "$real" "$@"
