#!/bin/sh
# check_revocation.sh PROXY.pem VO.pem LIST.crl
#
# Whether a VO has revoked a proxy of its own, with openssl alone: `openssl verify -crl_check` does not look proxies up.
# Says `good` (status 0), `revoked` (1), or why it cannot tell (2).
set -u
proxy=$1 vo=$2 list=$3
unknown() { echo "unknown: $1"; exit 2; }

openssl verify -allow_proxy_certs -partial_chain -CAfile "$vo" "$proxy" > /dev/null 2>&1 ||
  unknown "the proxy was not signed by this VO certificate, or has ended"
serial=$(openssl x509 -in "$proxy" -noout -serial | cut -d= -f2)

work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
# A VO with several certificates publishes several lists in one file.
awk -v to="$work" '/BEGIN X509 CRL/ { n++ } n { print > (to "/" n ".crl") }' "$list"
# Every list that this certificate's key signed is looked at: what stands on any of them is revoked for good.
signed='' good=''
for crl in "$work"/*.crl; do
  openssl crl -in "$crl" -CAfile "$vo" -verify -noout 2>&1 | grep -q 'verify OK' || continue
  signed=yes
  if openssl crl -in "$crl" -noout -text | grep -qix " *Serial Number: 0*$serial"; then
    echo revoked
    exit 1
  fi
  due=$(date -u -d "$(openssl crl -in "$crl" -noout -nextupdate | cut -d= -f2)" +%s)
  [ "$due" -gt "$(date +%s)" ] && good=yes
done
[ -n "$signed" ] || unknown "there is no list that this VO certificate signed"
[ -n "$good" ] || unknown "the list is out of date; fetch it again"
echo good
