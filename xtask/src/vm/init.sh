#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the machine: mounts the host's file system, below one in memory that takes what is written, runs
# /command there, and tells its exit status through the second serial port.
box=/bin/busybox
$box mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
$box stty -F /dev/ttyS0 -onlcr
$box mount -t proc proc /proc
$box mount -t sysfs sys /sys
while read -r module; do $box insmod "$module"; done </modules

$box mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose host /host
$box mount -t tmpfs changes /changes
$box mkdir /changes/upper /changes/work
$box mount -t overlay -o lowerdir=/host,upperdir=/changes/upper,workdir=/changes/work root /new

$box mount -t devtmpfs dev /new/dev
$box mkdir -p /new/dev/pts /new/dev/shm
$box mount -t devpts pts /new/dev/pts
$box mount -t proc proc /new/proc
$box mount -t sysfs sys /new/sys
$box mount -t tracefs tracing /new/sys/kernel/tracing
$box mount -t bpf bpf /new/sys/fs/bpf
$box mount -t cgroup2 cgroup /new/sys/fs/cgroup
for folder in dev/shm tmp run; do $box mount -t tmpfs tmpfs /new/$folder; done
$box ip link set lo up

$box cp /command /new/run/command
$box chroot /new /bin/sh /run/command
$box echo "$?" >/dev/ttyS1
# qemu ends where a machine would begin anew.
$box reboot -f
