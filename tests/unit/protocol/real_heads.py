# ruff: noqa: E501 - recorded bytes
"""Request heads as real clients sent them, recorded on 2026-11-23 by a listening socket on loopback.

curl 7.88.1 (also with a proxy, an upload, chunked), wrk 4.1, ApacheBench 2.3 (with and without -k), Go 1.26 net/http (also
with a proxy), Node 20 http and fetch, Java 17 HttpClient and HttpURLConnection, httpx 0.28, urllib, Chromium 156.
"""

REAL_HEADS: tuple[bytes, ...] = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Length: 3\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n",
    b"PUT /up HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Length: 49\r\nExpect: 100-continue\r\n\r\n",
    b"GET /a?b=c%20d HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nAuthorization: Basic dTpw\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nAccept-Encoding: deflate, gzip, br, zstd\r\nCookie: x=1; y=2\r\n\r\n",
    b"GET http://web.example/a HTTP/1.1\r\nHost: web.example\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nProxy-Connection: Keep-Alive\r\n\r\n",
    b"PUT /ch HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:28777\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: 127.0.0.1:28777\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: 127.0.0.1:28777\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n",
    b"GET /go HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
    b"POST /gp HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 2\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
    b"POST /gc HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nUser-Agent: Go-http-client/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET http://svc.local/x?y HTTP/1.1\r\nHost: svc.local\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET /node HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nConnection: keep-alive\r\n\r\n",
    b"POST /np HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /nf HTTP/1.1\r\nhost: 127.0.0.1:28777\r\nconnection: keep-alive\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\n\r\n",
    b"POST /nfp HTTP/1.1\r\nhost: 127.0.0.1:28777\r\nconnection: keep-alive\r\ncontent-type: application/json\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\ncontent-length: 2\r\n\r\n",
    b"GET /java HTTP/1.1\r\nContent-Length: 0\r\nHost: 127.0.0.1:28777\r\nUser-Agent: Java-http-client/17.0.15\r\n\r\n",
    b"POST /jp HTTP/1.1\r\nContent-Length: 2\r\nHost: 127.0.0.1:28777\r\nUser-Agent: Java-http-client/17.0.15\r\nContent-Type: application/json\r\n\r\n",
    b"GET /jold HTTP/1.1\r\nUser-Agent: Java/17.0.15\r\nHost: 127.0.0.1:28777\r\nAccept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nConnection: keep-alive\r\n\r\n",
    b"GET /j2 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 0\r\nHost: 127.0.0.1:28777\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\n\r\n",
    b"GET /hx HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\n\r\n",
    b"POST /hxp HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\nContent-Length: 7\r\nContent-Type: application/json\r\n\r\n",
    b"GET /ul HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: 127.0.0.1:28777\r\nUser-Agent: Python-urllib/3.11\r\nConnection: close\r\n\r\n",
    b'GET /browser HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nConnection: keep-alive\r\nsec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/jxl,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n',
    b'GET /i.png HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nConnection: keep-alive\r\nsec-ch-ua-platform: "Linux"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36\r\nsec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"\r\nsec-ch-ua-mobile: ?0\r\nAccept: image/jxl,image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\nReferer: http://127.0.0.1:28777/browser\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: a=b\r\n\r\n',
    b'POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nConnection: keep-alive\r\nContent-Length: 1\r\nsec-ch-ua-platform: "Linux"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36\r\nsec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"\r\nContent-Type: text/plain;charset=UTF-8\r\nsec-ch-ua-mobile: ?0\r\nAccept: */*\r\nOrigin: http://127.0.0.1:28777\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: http://127.0.0.1:28777/browser\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: a=b\r\n\r\n',
    b'GET /favicon.ico HTTP/1.1\r\nHost: 127.0.0.1:28777\r\nConnection: keep-alive\r\nsec-ch-ua-platform: "Linux"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36\r\nsec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"\r\nsec-ch-ua-mobile: ?0\r\nAccept: image/jxl,image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\nReferer: http://127.0.0.1:28777/browser\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: a=b\r\n\r\n',
)
