#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A host of its own: host.sh pivot|chroot PROGRAM COMMAND…, by `unshare --pid --net --uts --ipc --mount --fork`.
# Its root is layers over this machine's, with the folder PROGRAM as /opt/target, entered as containers do, or as a chroot
# does; the folder of BUFTRACE_READY_FILE is the one thing that it shares. Its next process ids are the largest there are,
# which no process of this machine has.
set -e
way=$1 program=$2
shift 2
folder=$(dirname "$BUFTRACE_READY_FILE")
hostname "$way"
mkdir "$folder/layers"
mount -t tmpfs tmpfs "$folder/layers"
mkdir "$folder/layers/upper" "$folder/layers/work" "$folder/layers/root"
root=$folder/layers/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layers/upper,workdir=$folder/layers/work" "$root"
mkdir -p "$root/opt" "$root$folder" "$root/above"
cp -r "$program" "$root/opt/target"
mount --bind "$folder" "$root$folder"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
cd "$root"
if [ "$way" = pivot ]; then
    pivot_root . above
    umount -l /above
    root=/
else
    mount -t proc proc /proc
fi
echo $(($(cat /proc/sys/kernel/pid_max) - 50)) > /proc/sys/kernel/ns_last_pid
chroot "$root" "$@" &
wait $!
