#!/usr/bin/env bash
export PORT=$AIP_HTTP_PORT
