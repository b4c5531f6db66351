"""The OAuth 2.0 endpoints: conversion of requests and responses. The rules are in `token_service.core.grants`."""
