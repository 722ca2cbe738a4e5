"""TLS as bytes in, bytes out: keys and certificates, who a peer is, contexts and the codec. No files, no sockets."""
