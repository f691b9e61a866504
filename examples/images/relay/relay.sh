# One visitor: the socket is stdin and stdout. BACKEND is the host name of the other service, BACKEND_PORT its port.
return_character=$(/bin/busybox printf '\r')
while read -r line && [ "${line%"$return_character"}" != "" ]; do :; done

answer=$(/bin/busybox printf 'GET / HTTP/1.0\r\nHost: %s\r\n\r\n' "$BACKEND" |
    /bin/busybox nc -w 5 "$BACKEND" "$BACKEND_PORT" | /bin/busybox sed '1,/^\r*$/d')
if [ -n "$answer" ]; then
    status='200 OK'
    body="<h1>The website</h1><p>$BACKEND answered:</p>$answer"
else
    status='502 Bad Gateway'
    body="<h1>The website</h1><p>$BACKEND:$BACKEND_PORT does not answer</p>"
fi
/bin/busybox printf 'HTTP/1.1 %s\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n%s\n' "$status" "$body"
