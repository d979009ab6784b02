#!/usr/bin/env bash
# The second half of tests/systemd/sandbox.py: runs as PID 1 of fresh namespaces, makes the machine that is
# to be thrown away, and becomes its systemd.
#
#   boot.sh WORK_DIR STATE_DIR UID BOOT_ID PATH...
#   boot.sh WORK_DIR --disk DISK BOOT_ID PATH...
#
# WORK_DIR is an empty folder; STATE_DIR is what lasts, and is /srv/saferoom there; PATHs are to be reachable
# for the user saferoom, whose number is UID. BOOT_ID may be empty: then it is the real machine's.
#
# With a DISK all that is written lasts, in that folder, and nothing of Saferoom is there at first.
set -euo pipefail
work=$1
if [ "$2" = --disk ]; then disk=$3 state='' uid='' boot_id=$4; else disk='' state=$2 uid=$3 boot_id=$4; fi
shift 4
new=$work/root

mount --make-rprivate /
# All of this machine, read from below; what is written goes to memory.
mount -t tmpfs -o mode=0755,size=2g sandbox "$work"
mkdir "$new"
upper=${disk:-$work}/upper scratch=${disk:-$work}/work
mkdir -p "$upper" "$scratch"
mount -t overlay -o "lowerdir=/,upperdir=$upper,workdir=$scratch" sandbox "$new"

mount -t proc -o nosuid,nodev,noexec proc "$new/proc"
# Read-only, so that systemd leaves the kernel alone: it is the real machine's.
mount --bind "$new/proc/sys" "$new/proc/sys"
if [ "$boot_id" ]; then
    printf '%s\n' "$boot_id" >"$work/boot_id"
    mount --bind "$work/boot_id" "$new/proc/sys/kernel/random/boot_id"
fi
mount -o remount,bind,ro "$new/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$new/sys"

mount -t tmpfs -o nosuid,mode=0755,size=1m dev "$new/dev"
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$device"
    mknod -m 0666 "$new/dev/$name" c "$major" "$minor"
done
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t devpts -o newinstance,nosuid,noexec,ptmxmode=0666,mode=0620,gid=5 devpts "$new/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$new/dev/shm"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${stream%:*}" "$new/dev/${stream#*:}"; done
# systemd empties and fills these, so they must not be the real ones.
mount -t tmpfs -o nosuid,nodev,mode=0755 run "$new/run"
for folder in tmp var/tmp; do mount -t tmpfs -o nosuid,nodev,mode=1777 scratch "$new/$folder"; done

# Control groups as this machine has them; the cgroup namespace shows only our own part of each hierarchy.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$new/sys/fs/cgroup"
else
    mount -t tmpfs -o nosuid,nodev,noexec,mode=0755 cgroup "$new/sys/fs/cgroup"
    mkdir "$new/sys/fs/cgroup/unified"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$new/sys/fs/cgroup/unified"
    while IFS=: read -r _ controllers _; do
        [ -n "$controllers" ] || continue
        folder=$new/sys/fs/cgroup/${controllers#name=}
        mkdir "$folder"
        case $controllers in name=*) options=none,$controllers ;; *) options=$controllers ;; esac
        mount -t cgroup -o "nosuid,nodev,noexec,$options" cgroup "$folder"
    done </proc/self/cgroup
fi

# What has no business here: hardware, the network, the kernel's settings, the distribution's timers.
units=$new/etc/systemd/system
mkdir -p "$units"
for unit in systemd-{udevd,udev-trigger,sysctl,modules-load,random-seed,binfmt,remount-fs,networkd,resolved,timesyncd,pstore,update-utmp}.service \
    systemd-udevd-{control,kernel}.socket systemd-networkd.socket networking.service kmod-static-nodes.service \
    dev-hugepages.mount dev-mqueue.mount sys-{kernel-{config,debug,tracing},fs-fuse-connections}.mount \
    proc-sys-fs-binfmt_misc.automount tmp.mount getty.target console-getty.service cron.service; do
    ln -sfn /dev/null "$units/$unit"
done
if [ "$disk" ]; then
    more="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer man-db.timer"
else
    more="timers.target postgresql.service nginx.service"
fi
for unit in $more; do ln -sfn /dev/null "$units/$unit"; done

# Its name, its user, and what lasts from one boot to the next.
printf 'sandbox\n' >"$new/etc/hostname"
hostname sandbox
tr -d - </proc/sys/kernel/random/uuid >"$new/etc/machine-id"
ip link set lo up
if [ "$disk" ]; then
    # On a file system that takes an overlay's upper layer, as a machine's own does.
    mkdir -p "$disk/srv"
    mount --bind "$disk/srv" "$new/srv"
    if [ ! -e "$disk/begun" ]; then
        # The real machine's own may run: a copy of its files is no cluster that could be started.
        rm -rf "$new"/etc/postgresql/* "$new"/var/lib/postgresql/*
        touch "$disk/begun"
    fi
else
    mkdir -p "$new/srv/saferoom" "$new/var/lib/systemd/linger"
    mount --bind "$state" "$new/srv/saferoom"
    chroot "$new" groupadd --gid "$uid" saferoom
    chroot "$new" useradd --uid "$uid" --gid "$uid" --home-dir /srv/saferoom/home --no-create-home --shell /bin/sh saferoom
    touch "$new/var/lib/systemd/linger/saferoom"
fi
for path; do
    if [ ! -e "$new$path" ]; then # It lies below /tmp, whose place an empty one has taken.
        layers=$work/layers$path
        mkdir -p "$new$path" "$layers/upper" "$layers/work"
        mount -t overlay -o "lowerdir=$path,upperdir=$layers/upper,workdir=$layers/work" sandbox "$new$path"
    fi
    while [ "$path" != / ]; do
        # A link would lead out of here, to the real folder.
        [ -L "$new$path" ] || chmod o+x "$new$path"
        path=$(dirname "$path")
    done
done

cd "$new"
pivot_root . .
umount --lazy .
cd /
exec env -i container=saferoom-tests PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --unit=multi-user.target --log-target=journal --show-status=no
