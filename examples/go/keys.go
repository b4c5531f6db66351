package validator

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
)

const (
	minRSABits = 2048
	maxRSABits = 8192
)

// JWK is a public key (RFC 7517), as a KeySet has it. Byte members are base64url.
type JWK struct {
	Kty, Kid, Use, Alg, N, E, Crv, X, Y string
}

// key verifies signatures with its one algorithm.
type key struct {
	algorithm string
	verify    func(signature, data []byte) bool
}

// importKeys returns the usable keys by kid. A key that must not verify is left out (RFC 7517, section 5).
func importKeys(jwks []JWK) map[string]key {
	keys := make(map[string]key)
	for _, jwk := range jwks {
		if usable, err := importKey(jwk); err == nil && jwk.Kid != "" {
			keys[jwk.Kid] = usable
		}
	}
	return keys
}

func importKey(jwk JWK) (key, error) {
	if jwk.Use != "" && jwk.Use != "sig" {
		return key{}, errors.New("use is not sig")
	}
	var made key
	var err error
	switch {
	case jwk.Kty == "RSA":
		made, err = rsaKey(jwk)
	case jwk.Kty == "EC" && jwk.Crv == "P-256":
		made, err = ecKey(jwk)
	case jwk.Kty == "OKP" && jwk.Crv == "Ed25519":
		made, err = edKey(jwk)
	default:
		err = errors.New("an unsupported key type")
	}
	if err == nil && jwk.Alg != "" && jwk.Alg != made.algorithm {
		err = errors.New("alg is not the algorithm of the key type")
	}
	return made, err
}

func rsaKey(jwk JWK) (key, error) {
	n, err := decodeBase64url(jwk.N)
	if err != nil {
		return key{}, err
	}
	e, err := decodeBase64url(jwk.E)
	if err != nil {
		return key{}, err
	}
	exponent := new(big.Int).SetBytes(e)
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return key{}, errors.New("an RSA key of a refused size")
	}
	if exponent.BitLen() > 31 || public.E < 3 || public.E%2 == 0 {
		return key{}, errors.New("a refused RSA exponent")
	}
	return key{"RS256", func(signature, data []byte) bool {
		digest := sha256.Sum256(data)
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	}}, nil
}

func ecKey(jwk JWK) (key, error) {
	x, errX := decodeBase64url(jwk.X)
	y, errY := decodeBase64url(jwk.Y)
	if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return key{}, errors.New("not a point of P-256")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return key{}, err
	}
	return key{"ES256", func(signature, data []byte) bool {
		if len(signature) != 64 { // r and s, 32 bytes each (RFC 7518, section 3.4)
			return false
		}
		digest := sha256.Sum256(data)
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(public, digest[:], r, s)
	}}, nil
}

func edKey(jwk JWK) (key, error) {
	x, err := decodeBase64url(jwk.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return key{}, errors.New("not an Ed25519 key")
	}
	return key{"EdDSA", func(signature, data []byte) bool { return ed25519.Verify(x, data, signature) }}, nil
}
